// The figures, put into the page. Keys, names and errors are of others: they become text only.

const byId = (id) => document.getElementById(id);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function put(id, text) {
  setText(byId(id), text);
}

/** Fills a list of terms with pairs of term and text; a third item is a colour's class. */
function putRows(list, pairs) {
  while (list.children.length > 2 * pairs.length) list.lastElementChild.remove();
  pairs.forEach(([term, text, colour], place) => {
    if (!list.children[2 * place]) {
      list.append(document.createElement('dt'), document.createElement('dd'));
    }
    const [dt, dd] = [list.children[2 * place], list.children[2 * place + 1]];
    if (dt.textContent !== term) {
      dt.textContent = term;
      if (colour) {
        const key = document.createElement('span');
        key.className = `key ${colour}`;
        dt.prepend(key);
      }
    }
    setText(dd, text);
  });
}

/** Fills a table's body, whose rows are arrays of texts; the first is the row's heading. */
function putTable(body, rows, classes = []) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, place) => {
    const row = body.rows[place] ?? body.insertRow();
    cells.forEach((text, column) => {
      if (!row.cells[column]) {
        const cell = document.createElement(column === 0 ? 'th' : 'td');
        if (column === 0) cell.scope = 'row';
        if (classes[column]) cell.className = classes[column];
        row.append(cell);
      }
      setText(row.cells[column], text);
    });
  });
}

function showSnapshot(snapshot) {
  const { daemon, hits, recent, requests, clients } = snapshot;
  const lately = `in the last ${span(recent.covers_ms)}`;
  put('up', `for ${span(daemon.uptime_seconds * 1000)}`);
  put('lede', lede(snapshot));
  put('hit-ratio', percent(recent.hit_percent));
  put('hit-ratio-below', `${lately}; ${percent(hits.hit_percent)} since the start`);
  put('reads', rate(recent.reads_per_second));
  put('reads-below', `${count(hits.hits)} hits, ${count(hits.misses)} misses since the start`);
  put('writes', rate(recent.writes_per_second));
  put('writes-below', `${count(requests.sets)} sets, ${count(requests.deletes)} deletes, `
    + `${count(requests.operations)} operations since the start`);
  put('turn', micros(recent.longest_turn_us));
  put('turn-below', `of the daemon's loop ${lately}; ${micros(daemon.longest_turn_us)} `
    + 'since the start');
  put('client-sums', `${count(clients.connections)} connected, ${count(clients.mailboxes)} with a `
    + `mailbox. Each reading thread may have up to ${count(hits.held_back_per_thread_max)} hits `
    + 'that it has not told of yet.');
  const { path } = snapshot.table_file;
  put('about', `l1d ${shown(daemon.version)}, process ${daemon.pid}`
    + (path ? `, table ${shown(path)}` : ''));
  showAlarms(snapshot);
  showChanges(snapshot);
  showMemory(snapshot, lately);
  showPolicies(snapshot.policies);
  showTiers(snapshot.tiers);
}

function lede({ clients, hits, recent, tiers }) {
  const names = [tiers?.l2 && 'memcached', tiers?.l3 && 'Redis'].filter(Boolean).join(' and ');
  const before = names ? `, in front of ${names}` : '';
  if (hits.hits + hits.misses === 0) {
    return `One L1 cache for every process of this host${before}. Nobody has read anything yet.`;
  }
  const who = counted(clients.connections, 'connection');
  if (recent.hits + recent.misses === 0) {
    return `One L1 cache for every process of this host${before}: ${who}, and no reads lately.`;
  }
  const reads = clients.connections === 1 ? 'reads' : 'read';
  return `One L1 cache for every process of this host${before}: ${who} ${reads} one table in `
    + `shared memory, which answers ${percent(recent.hit_percent)} of `
    + `${rate(recent.reads_per_second).replace('/s', '')} reads a second.`;
}

/** What somebody should do something about. */
function alarms(snapshot) {
  const { requests, daemon, tiers, moves, policies, index_advice: index } = snapshot;
  const all = [];
  for (const [name, tier] of tierList(tiers)) {
    if (tier.breaker !== 'closed') all.push(`${name}: ${stateOf(tier)}, ${sinceOf(tier)}`);
  }
  if (tiers && (tiers.l2_debts > 0 || tiers.l2_left_out_ms > 0)) {
    all.push(`memcached owes ${counted(tiers.l2_debts, 'delete')}; it is not read for these keys.`);
  }
  if (index) all.push(`Index: ${index}.`);
  const isFull = (rule) => rule.refused_as_full > 0;
  for (const { prefix, refused_as_full: refused } of policies.filter(isFull)) {
    all.push(`${counted(refused, 'new key or larger value', 'new keys or larger values')} of `
      + `"${prefix}" refused: its entries are never evicted, and its share is used up.`);
  }
  const failed = [
    [requests.refused, 'not taken by the store of record'],
    [requests.unknown_outcomes, 'with an unknown outcome'],
    [requests.degraded, 'taken without L2'],
  ].filter(([number]) => number > 0);
  if (failed.length > 0) {
    const causes = failed.map(([number, what]) => `${count(number)} ${what}`).join(', ');
    all.push(`Writes since the start: ${causes}.`);
  }
  if (daemon.log_lines_dropped > 0) {
    all.push(`${counted(daemon.log_lines_dropped, 'line')} of the log dropped: nobody took them.`);
  }
  const move = moves.under_way;
  if (move) {
    const done = Math.floor(move.buckets_copied * 100 / Math.max(1, move.buckets));
    all.push(`Moving to a table of ${size(move.to_bytes)}: ${done} % copied.`);
  }
  return all;
}

function showAlarms(snapshot) {
  const all = alarms(snapshot);
  byId('alarms').hidden = all.length === 0;
  putList(byId('alarm-list'), all);
}

function putList(list, texts) {
  while (list.children.length > texts.length) list.lastElementChild.remove();
  texts.forEach((text, place) => {
    setText(list.children[place] ?? list.appendChild(document.createElement('li')), shown(text));
  });
}

/** What would help, as far as the figures say. */
function showChanges({ advice = [] }) {
  byId('change-list').hidden = advice.length === 0;
  putList(byId('change-list'), advice.map(({ sentence }) => sentence));
}

function showMemory({ table, recent }, lately) {
  const of = (bytes) => percent(part(bytes, table.log_bytes));
  const rest = table.table_bytes - table.usable_bytes;
  const pairs = [
    ['Table', size(table.table_bytes) + (rest > 0 ? `; ${size(rest)} not allocated yet` : '')],
    ['Live', `${size(table.live_bytes)} (${of(table.live_bytes)}) in `
      + counted(table.entries, 'entry', 'entries'), 'live'],
    ['Dead', `${size(table.dead_bytes)} (${of(table.dead_bytes)}), not yet reclaimed`, 'dead'],
    ['Free', `${size(table.free_bytes)} (${of(table.free_bytes)})`, 'free'],
    ['Absences', `${size(table.absent_bytes)} of live entries say that a key has no value`],
    ['Oldest', table.oldest_entry_seconds === null
      ? 'no entry'
      : `no entry is older than ${span(table.oldest_entry_seconds * 1000)}`],
    ['Index', `${table.index_load_percent.toFixed(0)} % of its slots in use`],
    ['Evicted', evictions(table, recent, lately)],
  ];
  putRows(byId('memory-rows'), pairs);
  for (const [name, bytes] of [['live', table.live_bytes], ['dead', table.dead_bytes]]) {
    byId(`bar-${name}`).style.width = `${part(bytes, table.log_bytes) ?? 0}%`;
  }
  const label = `${of(table.live_bytes)} live, ${of(table.dead_bytes)} dead, `
    + `${of(table.free_bytes)} free`;
  byId('bar').setAttribute('aria-label', label);
}

/** How much is evicted, and what evicts. */
function evictions(table, recent, lately) {
  const causes = [
    [table.evicted - table.evicted_over_share, 'because the table is full'],
    [table.evicted_over_share, 'because their rule or absences had used up their share'],
    [table.displaced, 'by index conflicts'],
  ].filter(([number]) => number > 0);
  const since = causes.length === 0
    ? 'none since the start'
    : `since the start ${causes.map(([number, why]) => `${count(number)} ${why}`).join(', ')}`;
  return `${count(recent.evicted)} entries ${lately}; ${since}. ${count(table.expired)} expired`;
}

function showPolicies(policies) {
  const sorted = [...policies].sort((a, b) => b.hits + b.misses - a.hits - a.misses);
  putTable(byId('policy-rows'), sorted.map((rule) => [
    rule.prefix === '' ? '(all others)' : shown(rule.prefix),
    span(rule.ttl_ms),
    count(rule.hits),
    count(rule.misses),
    percent(rule.hit_percent),
    size(rule.live_bytes),
    percent(rule.share_percent),
    percent(rule.share_max_percent) + (rule.refused_as_full === null ? '' : ', never evicted'),
  ]), ['wrap']);
}

function tierList(tiers) {
  return [['memcached', tiers?.l2], ['Redis', tiers?.l3]].filter(([, tier]) => tier);
}

function stateOf(tier) {
  return { closed: 'in use', 'half-open': 'being tried', open: 'lost' }[tier.breaker] ?? '–';
}

function sinceOf(tier) {
  const why = tier.lost_by ?? 'the reason is not known';
  return `for ${span(tier.breaker_since_seconds * 1000)}: ${shown(why)}`;
}

function showTiers(tiers) {
  const list = tierList(tiers);
  byId('no-tiers').hidden = list.length > 0;
  byId('tier-table').hidden = list.length === 0;
  const body = byId('tier-rows');
  putTable(body, list.map(([name, tier]) => [
    name,
    stateOf(tier),
    span(tier.breaker_since_seconds * 1000),
    tier.latency_us === null ? '–' : `${(tier.latency_us / 1000).toFixed(2)} ms`,
    tier.keys_per_batch.toFixed(1),
    percent(part(tier.hits, tier.hits + tier.misses)),
    count(tier.errors),
    count(tier.timeouts),
    shown((tier.breaker === 'closed' ? tier.last_error : tier.lost_by) ?? 'none'),
  ]), ['', 'left state-cell', '', '', '', '', '', '', 'left wrap']);
  list.forEach(([, tier], place) => {
    body.rows[place].classList.toggle('alarm', tier.breaker !== 'closed');
  });
}

function showClients(clients) {
  const weight = (client) => client.requests + (client.client_reported?.hits ?? 0);
  const sorted = [...clients].sort((a, b) => weight(b) - weight(a));
  putTable(byId('client-rows'), sorted.map((client) => [
    client.pid > 0 ? String(client.pid) : 'other namespace',
    shown(client.user ?? client.uid),
    shown(client.program ?? '–'),
    span(client.connected_seconds * 1000),
    count(client.client_reported?.hits),
    count(client.reads),
    percent(client.hit_percent),
    count(client.writes),
  ]), ['', 'left', 'left']);
}

/** Estimates for other sizes of the table. */
function showAdvice(advice) {
  const percents = advice.hit_percent ?? [];
  const sizes = percents.map((hit, place) => {
    return { hit, times: advice.times[place], bytes: advice.bytes[place] };
  });
  put('advice-sentence', sizes.length > 0
    ? shown(advice.sentence ?? '')
    : `Too little was read to say what another size would bring: `
      + `${counted(advice.sampled_reads, 'read')} of sampled keys so far.`);
  byId('advice-table').hidden = sizes.length === 0;
  const body = byId('advice-rows');
  putTable(body, sizes.map(({ hit, times, bytes }) => {
    return [`${times}${SPACE}×`, size(bytes), percent(hit), ''];
  }), ['', '', '', 'share']);
  sizes.forEach(({ hit, times }, place) => {
    body.rows[place].classList.toggle('own', times === 1);
    body.rows[place].cells[3].style.setProperty('--part', `${hit}%`);
  });
}

/** Without clients and keys, where everybody may look, the page says why. */
function showAccess(isPrivate) {
  for (const id of ['ask', 'client-list', 'advice-list']) byId(id).hidden = !isPrivate;
  for (const id of ['no-explain', 'no-clients', 'no-advice']) byId(id).hidden = isPrivate;
}
