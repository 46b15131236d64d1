// Where one key stands: what `l1ctl explain KEY` shows, with the sentence first.

function showExplanation(answer) {
  put('sentence', shown(answer.sentence ?? ''));
  putRows(byId('answer-rows'), [
    ['Key', `${shown(answer.key)} (${answer.key_bytes} bytes)`],
    ['Rule', ruleOf(answer.policy ?? {})],
    ['L1', inTable(answer.in_table)],
    ['Last change', lastChange(answer.last_change)],
    ['L2 memcached', inTier(answer.l2)],
    ['L3 Redis', inTier(answer.l3)],
    ['Under way', underWay(answer)],
  ]);
}

function ruleOf(policy) {
  const name = policy.prefix ? JSON.stringify(shown(policy.prefix)) : '[defaults]';
  const ttl = typeof policy.ttl_ms === 'number' ? span(policy.ttl_ms) : 'forever';
  return `${name}: scope ${policy.scope}, at most ${ttl} in L1, write ${policy.write}`
    + (policy.l2 === false ? ', leaves L2 out' : '');
}

function left(ms) {
  return ms === null ? 'without end' : `${span(ms)} left`;
}

function inTable(held) {
  if (!held) return 'nothing';
  const what = held.known_absent ? 'known to have no value' : size(held.value_bytes);
  return `${what}, ${left(held.ttl_ms)}, version ${held.version}, flags ${held.flags}`;
}

function inTier(tier) {
  if (!tier) return 'not asked: not configured, or left out';
  const why = tier.why ? ` (${shown(tier.why)})` : '';
  if (tier.found === null) return `not known${why}`;
  if (!tier.found) return 'nothing';
  const bytes = tier.value_bytes === null ? 'a value' : size(tier.value_bytes);
  const same = { true: ', the same bytes as in L1', false: ', not the same bytes as in L1' };
  return `${bytes}, ${left(tier.ttl_ms)}${same[tier.same_as_l1] ?? ''}${why}`;
}

const CAUSES = {
  'set': 'set',
  'delete': 'deleted',
  'operation': 'changed by an atomic operation',
  'load': 'loaded',
  'fetch-l2': 'fetched from L2 (memcached) for a read',
  'fetch-l3': 'fetched from L3 (Redis) for a read',
  'fetch-absent': 'found absent in the tiers by a read',
  'flush': 'flushed',
  'unknown-outcome': 'dropped, because the outcome of a write is not known',
  'refused-value': 'dropped, because a tier refused a write',
};

function lastChange(change) {
  if (!change) return 'not known: long ago, or never';
  const cause = CAUSES[change.cause] ?? shown(change.cause);
  return `${cause}${shown(change.by ?? '')}, ${span(change.age_ms)} ago`;
}

function underWay(answer) {
  const all = [];
  if (answer.write_under_way) all.push('a change on its way to the tiers');
  if (answer.flight_waiters > 0) {
    all.push(`a fetch, for which ${counted(answer.flight_waiters, 'read')} wait`);
  }
  if (answer.load) {
    all.push(`a load by one process; others were told to wait ${answer.load.told_to_wait} times`);
  }
  return all.join('; ') || 'nothing';
}

let keysAsked = 0;

/** Asks for a key, and takes the reader to the answer, unless another key was asked for since. */
async function explain(event) {
  event.preventDefault();
  const key = byId('key').value;
  const rows = byId('answer-rows');
  keysAsked += 1;
  const own = keysAsked;
  try {
    const answer = await fetchJson(`api/explain?key=${encodeURIComponent(key)}`);
    if (own !== keysAsked) return;
    showExplanation(answer);
  } catch (error) {
    if (own !== keysAsked) return;
    put('sentence', `The daemon did not answer for this key: ${shown(error.message)}.`);
    putRows(rows, []);
  }
  byId('answer').hidden = false;
  byId('answer').focus();
}
