// The status page, served by a real daemon with real tiers under a real load.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  SCHEMES, SIZES, assertAccessible, assertLayout, assertQuiet, launch, open, screenshot, text,
  textWhen,
} from './support/browser.mjs';
import { Daemon, endAll, startTiers, until } from './support/processes.mjs';

/** Others choose keys, so this is one. */
const HOSTILE = '<img src=x onerror=alert(1)>\u202e"\'&amp;';
const POLICIES = `
[[policy]]
prefix = "l1d-demo:l1d:market:"
ttl = "20s"
share_max = "50%"

[[policy]]
prefix = "l1d-demo:l1d:analysis:"
ttl = "90s"

[[policy]]
prefix = "<script>alert(2)</script>"
`;

/** The background of each scheme. */
const GROUND = { light: 'rgb(245, 246, 247)', dark: 'rgb(16, 19, 22)' };

function ground(page) {
  return page.evaluate(() => getComputedStyle(document.body).backgroundColor);
}

let browser;
let tiers;
let daemon;

before(async () => {
  [browser, tiers] = await Promise.all([launch(), startTiers()]);
  daemon = await Daemon.start({ tiers, policies: POLICIES });
  daemon.load();
  await until('hits are counted', async () => {
    const { recent } = await (await fetch(`${daemon.url}api/snapshot`)).json();
    return recent.hits > 1000 && recent.writes > 100;
  });
});

after(async () => {
  await browser?.close();
  endAll();
});

for (const size of SIZES) {
  test(`at ${size.join('x')} everything is there, in order and accessible`, async () => {
    const page = await open(browser, daemon.url, { size });
    await textWhen(page, '#hit-ratio', /^\d+\.\d %$/);
    await textWhen(page, '#client-rows', /l1d/);
    await textWhen(page, '#advice-sentence', /memory|Too little/);
    assert.match(await text(page, '#reads'), /^[\d.]+k?\/s$/);
    assert.match(await text(page, '#policy-rows'), /l1d-demo:l1d:market:20 s/);
    assert.equal(await page.locator('#graphs svg .line').count(), 4);
    for (const scheme of SCHEMES) {
      await page.emulateMedia({ colorScheme: scheme });
      assert.equal(await ground(page), GROUND[scheme]);
      await assertLayout(page);
      await assertAccessible(page);
      await screenshot(page, `status-${size[0]}-${scheme}`);
    }
    assertQuiet(page);
    await page.context().close();
  });
}

test('the figures are the daemon\'s, and move', async () => {
  const page = await open(browser, daemon.url);
  const first = await textWhen(page, '#reads-below', /hits/);
  await page.waitForFunction((first) => {
    return document.querySelector('#reads-below').textContent.replaceAll('\u00a0', ' ') !== first;
  }, first);
  const [shown, told] = await page.evaluate(async () => {
    const { recent } = await (await fetch('api/snapshot')).json();
    return [document.querySelector('#hit-ratio').textContent, recent.hit_percent];
  });
  assert.ok(Math.abs(parseFloat(shown) - told) < 1, `${shown} for ${told}`);
  const rows = await page.locator('#tier-rows tr').count();
  assert.equal(rows, Object.keys(tiers).length);
  // As src/ctl/screen.rs writes them.
  const formats = await page.evaluate(() => [
    [0, 7, 999, 1000, 12345, 999499, 999500].map(count),
    [512, 1023, 2 ** 20, 3 * 2 ** 29].map(size),
    [0, 0.25, 1234.5].map(rate),
    [99.99, 100].map(percent),
    [30, 61000, 7200000, 90000000].map(span),
  ].map((texts) => texts.join('; ').replaceAll('\u00a0', ' ')));
  assert.deepEqual(formats, [
    '0; 7; 999; 1.00k; 12.3k; 999k; 1.00M',
    '512 B; 1023 B; 1.00 MiB; 1.50 GiB',
    '0/s; 0.25/s; 1.23k/s',
    '99.9 %; 100.0 %',
    '30 ms; 1 min 1 s; 2 h; 1 d 1 h',
  ]);
  assertQuiet(page);
  await page.context().close();
});

test('a key is explained by keyboard, and a hostile one is only text', async () => {
  daemon.ctl('set', '--ttl', '20s', HOSTILE, 'value');
  const page = await open(browser, daemon.url, { size: [360, 740] });
  await textWhen(page, '#state', /Running/);
  const focused = [];
  for (let at = 0; at < 4; at += 1) {
    await page.keyboard.press('Tab');
    focused.push(await page.evaluate(() => {
      return document.activeElement.id || document.activeElement.className;
    }));
  }
  assert.deepEqual(focused, ['skip', 'theme', 'key', '']);
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.insertText(HOSTILE);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#answer:focus');
  assert.match(await text(page, '#sentence'), /Every process of this host reads this value until/);
  const rows = await text(page, '#answer-rows');
  assert.match(rows, /<img src=x onerror=alert\(1\)>\?"'&amp;/);
  assert.match(rows, /set by process \d+/);
  // A version is more than a double holds, and is shown exactly.
  const { version } = JSON.parse(
    daemon.ctl('--json', 'explain', HOSTILE).replace(/"version":(\d+)/, '"version":"$1"'),
  ).in_table;
  assert.ok(rows.includes(`version ${version},`), rows);
  await assertLayout(page);
  await assertAccessible(page);
  assertQuiet(page);
  await screenshot(page, 'status-explain');
  await page.context().close();
});

test('colours can be chosen, and the choice stays', async () => {
  const page = await open(browser, daemon.url, { scheme: 'light' });
  await page.click('#theme');
  assert.equal(await ground(page), GROUND.dark);
  await page.reload();
  assert.equal(await ground(page), GROUND.dark);
  await page.click('#theme');
  assert.equal(await ground(page), GROUND.light);
  await page.context().close();
});

test('where everybody may look, keys and clients are neither shown nor asked for', async () => {
  const page = await open(browser, daemon.openUrl, { size: [800, 600] });
  await textWhen(page, '#hit-ratio', /%/);
  await textWhen(page, '#explain', /not shown at this address/);
  for (const id of ['#ask', '#client-list', '#advice-list']) assert.ok(await page.isHidden(id), id);
  await sleep(1500);
  const asked = new Set(page.requests.map((url) => new URL(url).pathname));
  assert.deepEqual([...asked].filter((path) => !path.startsWith('/data')).sort(),
    ['/', '/api/history', '/api/snapshot']);
  await assertLayout(page);
  await assertAccessible(page);
  assertQuiet(page);
  await screenshot(page, 'status-open');
  await page.context().close();
});

test('ten pages at once each follow, and a hidden one asks nothing', async () => {
  const hide = () => {
    Object.defineProperty(document, 'visibilityState', { get: () => globalThis.seen });
  };
  const init = `globalThis.seen = 'visible'; (${hide})()`;
  const context = await browser.newContext();
  const pages = await Promise.all(Array.from({ length: 10 }, () => {
    return open(browser, daemon.url, { init, context });
  }));
  await Promise.all(pages.map((page) => textWhen(page, '#client-rows', /l1d/)));
  const look = (page, state) => page.evaluate((state) => {
    globalThis.seen = state;
    document.dispatchEvent(new Event('visibilitychange'));
  }, state);
  await look(pages[0], 'hidden');
  await sleep(300);
  const asked = () => pages.map((page) => {
    return page.requests.filter((url) => url.endsWith('snapshot')).length;
  });
  const before = asked();
  await sleep(3000);
  const between = asked().map((number, place) => number - before[place]);
  assert.equal(between[0], 0);
  for (const number of between.slice(1)) assert.ok(number >= 1 && number <= 3, `${between}`);
  await look(pages[0], 'visible');
  await until('the shown page asks again', () => asked()[0] > before[0]);
  pages.forEach(assertQuiet);
  await context.close();
});

test('nobody has read and there are no tiers: the page says so', async () => {
  const fresh = await Daemon.start();
  const page = await open(browser, fresh.url, { scheme: 'dark' });
  await textWhen(page, '#lede', /Nobody has read anything yet/);
  assert.equal(await text(page, '#hit-ratio'), '–');
  assert.match(await text(page, '#tiers'), /No tiers are configured/);
  await textWhen(page, '#advice-sentence', /Too little was read/);
  await assertLayout(page);
  await assertAccessible(page);
  assertQuiet(page);
  await screenshot(page, 'status-fresh');
  await page.context().close();
  fresh.process.kill('SIGKILL');
});

test('a lost tier is seen, and so is a daemon that is gone', async () => {
  const page = await open(browser, daemon.url);
  await textWhen(page, '#hit-ratio', /%/);
  if (tiers.redis) {
    tiers.redis.process.kill('SIGKILL');
    await textWhen(page, '#alarm-list', /Redis: lost/);
    await assertLayout(page);
    await assertAccessible(page);
    await screenshot(page, 'status-tier-lost');
  }
  assertQuiet(page);
  daemon.process.kill('SIGKILL');
  await textWhen(page, '#state', /does not answer. No answer since \d\d:\d\d:\d\d/);
  const kept = await text(page, '#reads-below');
  assert.match(kept, /hits/);
  const before = page.requests.length;
  await sleep(2500);
  assert.ok(page.requests.length - before <= 3, 'asks once a second at most');
  assert.equal(await text(page, '#reads-below'), kept);
  await assertLayout(page);
  await assertAccessible(page);
  await screenshot(page, 'status-lost');
  await daemon.run();
  await textWhen(page, '#state', /^Running$/);
  await page.context().close();
});
