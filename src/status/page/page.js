// Looks at the daemon once a second while somebody looks at the page.

const EVERY_MS = 1000;
const ADVICE_EVERY_MS = 10000;
const DEADLINE_MS = 3000;

const graphs = [
  ['Hit ratio', 'percent', percent, 'hit_percent'],
  ['Reads a second', 'count', rate, 'reads_per_second'],
  ['Writes a second', 'count', rate, 'writes_per_second'],
  ['Live memory', 'size', size, 'live_bytes'],
].map(([title, kind, show, figure]) => {
  return { figure, graph: new Graph(title, kind, show, byId('graphs')) };
});

/** Samples of the last minutes, the oldest first; `at` is on this page's clock. */
let samples = [];
let isAsking = false;
let answeredAt = null;
let advisedAt = null;
let timer;

/** Fetches JSON. Integers that a double cannot hold stay text. */
async function fetchJson(path) {
  const response = await fetch(path, {
    cache: 'no-store', signal: AbortSignal.timeout(DEADLINE_MS),
  });
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    throw new Error(error ?? `status ${response.status}`);
  }
  return JSON.parse(await response.text(), (_key, value, context) => {
    const isExact = typeof value !== 'number' || !Number.isInteger(value)
      || Number.isSafeInteger(value);
    return isExact ? value : context?.source ?? value;
  });
}

/** One look. There is never more than one under way. */
async function look() {
  clearTimeout(timer);
  if (isAsking || document.visibilityState !== 'visible') return;
  isAsking = true;
  try {
    const now = performance.now();
    const hasGap = samples.length === 0 || now - samples.at(-1).at > 5 * EVERY_MS;
    const history = hasGap ? await fetchJson('api/history') : null;
    const snapshot = await fetchJson('api/snapshot');
    take(snapshot, history);
    answered();
    // Only readers are told a path.
    const isPrivate = snapshot.table_file.path !== '';
    showAccess(isPrivate);
    // These are asked for again soon.
    if (isPrivate) await lookFurther().catch(() => {});
  } catch (error) {
    failed(error);
  }
  isAsking = false;
  timer = setTimeout(look, EVERY_MS);
}

/** Clients, and the estimates, which change slowly. */
async function lookFurther() {
  showClients((await fetchJson('api/clients')).clients);
  if (advisedAt === null || performance.now() - advisedAt > ADVICE_EVERY_MS) {
    advisedAt = performance.now();
    showAdvice(await fetchJson('api/advise'));
  }
}

function drawGraphs() {
  const now = samples.at(-1)?.at ?? performance.now();
  for (const { graph, figure } of graphs) {
    graph.draw(samples.map((sample) => [sample.at, sample[figure]]), now);
  }
}

function answered() {
  const wasLost = answeredAt === null || document.documentElement.classList.contains('lost');
  answeredAt = new Date();
  document.documentElement.classList.remove('lost');
  if (wasLost) put('state', 'Running');
}

/** The last figures stay, in grey. The reason is in the tooltip. */
function failed(error) {
  document.documentElement.classList.add('lost');
  const since = answeredAt === null
    ? 'This page has not seen it answer yet.'
    : `No answer since ${answeredAt.toLocaleTimeString('en-GB')}; the figures are from then.`;
  put('state', `The daemon does not answer. ${since}`);
  byId('state').title = shown(error.message);
}

/** Takes what one look found. */
function take(snapshot, history) {
  const at = performance.now();
  if (history) samples = fromHistory(history, at);
  samples.push(sampleOf(snapshot, at, samples.at(-1)));
  while (at - samples[0].at > COVERS_MS_MAX) samples.shift();
  showSnapshot(snapshot);
  drawGraphs();
}

/** What happened since the look before; the daemon's mean of ten seconds where there was none. */
function sampleOf({ hits, requests, recent, table }, at, last) {
  const writes = requests.sets + requests.deletes + requests.operations;
  const counts = { hits: hits.hits, misses: hits.misses, writes };
  const sample = { at, counts, live_bytes: table.live_bytes };
  const since = last?.counts;
  const seconds = (at - last?.at) / 1000;
  const hasFallen = since && Object.keys(counts).some((name) => counts[name] < since[name]);
  if (!since || seconds > 5 || hasFallen) {
    const { hit_percent, reads_per_second, writes_per_second } = recent;
    return { ...sample, hit_percent, reads_per_second, writes_per_second };
  }
  const [hit, missed] = [counts.hits - since.hits, counts.misses - since.misses];
  return {
    ...sample,
    hit_percent: part(hit, hit + missed),
    reads_per_second: (hit + missed) / seconds,
    writes_per_second: (writes - since.writes) / seconds,
  };
}

/** The daemon's samples, on this page's clock: the last one is of now, whatever both clocks say. */
function fromHistory({ samples: theirs = [] }, at) {
  const now = theirs.at(-1)?.at_ms ?? 0;
  return theirs.map((sample) => ({
    at: Math.min(at, at - (now - sample.at_ms)),
    hit_percent: part(sample.hits, sample.hits + sample.misses),
    reads_per_second: (sample.hits + sample.misses) * 1000 / Math.max(1, sample.covers_ms),
    writes_per_second: sample.writes * 1000 / Math.max(1, sample.covers_ms),
    live_bytes: sample.live_bytes,
  }));
}

function setTheme(theme) {
  const root = document.documentElement;
  const isDark = theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  put('theme', isDark ? 'Light colours' : 'Dark colours');
  byId('theme').dataset.next = isDark ? 'light' : 'dark';
}

/** The colours chosen before; a browser may forbid to ask. */
function storedTheme() {
  try {
    const theme = localStorage.getItem('l1d-theme');
    return ['light', 'dark'].includes(theme) ? theme : null;
  } catch {
    return null;
  }
}

byId('theme').addEventListener('click', () => {
  const theme = byId('theme').dataset.next;
  setTheme(theme);
  try {
    localStorage.setItem('l1d-theme', theme);
  } catch {
    // The choice lasts as long as the page.
  }
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  setTheme(storedTheme());
});
byId('ask').addEventListener('submit', explain);
document.addEventListener('visibilitychange', look);
new ResizeObserver(drawGraphs).observe(byId('graphs'));
setTheme(storedTheme());
look();
