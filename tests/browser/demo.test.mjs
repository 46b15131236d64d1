// `l1d demo --page`: three dashboards by real processes, over real tiers where they are installed.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  SCHEMES, SIZES, assertAccessible, assertLayout, assertQuiet, launch, open, screenshot, text,
  textWhen,
} from './support/browser.mjs';
import { L1D, endAll, freePort, start, startTiers, until } from './support/processes.mjs';

let browser;
let demo;
let url;

before(async () => {
  const [tiers, port] = await Promise.all([startTiers(), freePort()]);
  browser = await launch();
  url = `http://127.0.0.1:${port}/`;
  demo = start(L1D, [
    'demo', '--page', '--page-port', port, '--web', '1',
    ...tiers.memcached ? ['--memcached', tiers.memcached.address] : [],
    ...tiers.redis ? ['--redis', tiers.redis.url] : [],
  ], { stdio: ['ignore', 'ignore', 'ignore'] });
  await until('the demo plays', async () => {
    const { elapsed_ms: elapsed } = await (await fetch(`${url}api/demo`)).json();
    return elapsed > 3000;
  }, 30);
});

after(async () => {
  await browser?.close();
  endAll();
});

/** What the phones show at several moments of some seconds. */
async function watch(page) {
  const seen = { 'l1d': [], 'l1-2s': [], 'l1-30s': [] };
  for (let moment = 0; moment < 10; moment += 1) {
    for (const [way, numbers] of Object.entries(seen)) {
      numbers.push(Number(await text(page, `#${way} .number`)));
    }
    await sleep(500);
  }
  return seen;
}

for (const size of SIZES) {
  test(`at ${size.join('x')} the dashboards are there, in order and accessible`, async () => {
    const page = await open(browser, url, { size });
    await textWhen(page, '#l1d .number', /\d/);
    for (const scheme of SCHEMES) {
      await page.emulateMedia({ colorScheme: scheme });
      await assertLayout(page);
      await assertAccessible(page);
      await screenshot(page, `demo-${size[0]}-${scheme}`);
    }
    assertQuiet(page);
    await page.context().close();
  });
}

test('a shared L1 never shows a zero, and copies of 30 s do', async () => {
  const page = await open(browser, url);
  await textWhen(page, '#l1d .number', /\d/);
  const seen = await watch(page);
  assert.ok(seen.l1d.every((number) => number === 20), `l1d: ${seen.l1d}`);
  assert.match(await text(page, '#l1d .stale'), /^0\.0 %$/);
  assert.ok(seen['l1-30s'].some((number) => number === 0), `30 s: ${seen['l1-30s']}`);
  assert.ok(seen['l1-2s'].some((number) => number < 20), `2 s: ${seen['l1-2s']}`);
  for (const way of ['l1-30s', 'l1-2s']) {
    assert.match(await text(page, `#${way} .monitor`), /The monitor says 20/);
    assert.doesNotMatch(await text(page, `#${way} .below`), /^0\.0\/s/, way);
  }
  assertQuiet(page);
  await page.context().close();
});

test('the demo ends on a signal, and the page keeps the last figures', async () => {
  const page = await open(browser, url);
  const before = await textWhen(page, '#l1d .number', /\d/);
  demo.kill('SIGINT');
  await textWhen(page, '#state', /The demo has ended/);
  assert.equal(await text(page, '#l1d .number'), before);
  await assertLayout(page);
  await assertAccessible(page);
  await page.context().close();
});
