'use strict';
// Shows what the web process of each way shows, as it stands now.

const EVERY_MS = 500;
const DEADLINE_MS = 3000;
const SPACE = '\u00a0';

/** In the order of the page: from the worst to the best. */
const WAYS = [
  ['l1-30s', 'An L1 in each process, 30 s', `every copy lives for 30${SPACE}s`],
  ['l1-2s', 'An L1 in each process, 2 s', `what others write lives for 2${SPACE}s`],
  ['l1d', 'One L1 for all: l1d', 'a write is seen by every process at once'],
];
const SIGNALS = ['BUY', 'HOLD', 'SELL'];

const articles = new Map(WAYS.map(([way, title, how]) => {
  const article = document.getElementById('way').content.firstElementChild.cloneNode(true);
  article.id = way;
  article.querySelector('h2').textContent = title;
  article.querySelector('.how').textContent = how;
  document.getElementById('ways').append(article);
  return [way, article];
}));

let isAsking = false;
let timer;

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function duration(ns) {
  const figure = (value) => value.toFixed(value < 9.95 ? 1 : 0);
  if (ns < 1e3) return `${ns}${SPACE}ns`;
  if (ns < 1e6) return `${figure(ns / 1e3)}${SPACE}µs`;
  return ns < 1e9 ? `${figure(ns / 1e6)}${SPACE}ms` : `${figure(ns / 1e9)}${SPACE}s`;
}

function percent(ratio) {
  return `${(ratio * 100).toFixed(1)}${SPACE}%`;
}

function rate(perSecond) {
  if (perSecond >= 999.5) return `${(perSecond / 1000).toFixed(1)}k/s`;
  return `${perSecond.toFixed(perSecond < 9.95 ? 1 : 0)}/s`;
}

/** A signal's direction. The demo's values are only numbered, so the number decides. */
function direction({ symbol, version }) {
  return SIGNALS[Math.imul(symbol * 31 + version, 0x9e3779b1) >>> 8 & 3] ?? 'BUY';
}

function showSignals(list, signals) {
  while (list.children.length > signals.length) list.lastElementChild.remove();
  signals.forEach((signal, place) => {
    let tile = list.children[place];
    if (!tile) {
      tile = list.appendChild(document.createElement('li'));
      tile.append('', document.createElement('b'), '');
    }
    const [name, value, age] = tile.childNodes;
    tile.className = signal.is_live ? 'live' : 'old';
    setText(name, `S${String(signal.symbol).padStart(3, '0')}`);
    setText(value, signal.is_live ? direction(signal) : '0');
    setText(age, `${(signal.age_ms / 1000).toFixed(signal.age_ms < 9950 ? 1 : 0)}${SPACE}s`);
  });
}

function showWay(article, figures, all) {
  const set = (selector, text) => setText(article.querySelector(selector), text);
  set('.clock', `${Math.floor(all.elapsed_ms / 1000)}${SPACE}s`);
  set('.number', String(figures.web_live));
  set('.of', String(all.signals_shown));
  set('.monitor', `The monitor says ${figures.monitor_live}.`);
  set('.stale', percent(figures.stale_ratio));
  const below = [rate(figures.reads_below_l1_per_second), percent(figures.reads_below_l1_ratio)];
  set('.below', `${below[0]} (${below[1]})`);
  set('.p50', duration(figures.read_p50_ns));
  set('.p99', duration(figures.read_p99_ns));
  article.querySelector('.phone').classList.toggle('none', figures.web_live === 0);
  showSignals(article.querySelector('.signals'), figures.signals);
}

function show(all) {
  if (!all.ways) return;
  setText(document.getElementById('slack'), `${all.slack_ms / 1000}${SPACE}s`);
  setText(document.getElementById('below'), all.below_l1);
  for (const figures of all.ways) {
    const article = articles.get(figures.way);
    if (article && figures.signals.length > 0) showWay(article, figures, all);
  }
}

/** One look. There is never more than one under way. */
async function look() {
  clearTimeout(timer);
  if (isAsking || document.visibilityState !== 'visible') return;
  isAsking = true;
  let state = '';
  try {
    const response = await fetch('api/demo', {
      cache: 'no-store', signal: AbortSignal.timeout(DEADLINE_MS),
    });
    show(await response.json());
  } catch {
    state = 'The demo has ended; these are its last figures.';
  }
  document.documentElement.classList.toggle('lost', state !== '');
  setText(document.getElementById('state'), state);
  isAsking = false;
  timer = setTimeout(look, EVERY_MS);
}

document.addEventListener('visibilitychange', look);
look();
