// Makes the picture of the demo's page for the README: an animated WebP of some seconds.

import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { launch, open } from './support/browser.mjs';
import { L1D, endAll, freePort, start, startTiers, until } from './support/processes.mjs';

const FRAMES = 6;
const FRAME_MS = 700;
const [WIDTH, HEIGHT] = [1120, 810];
const QUALITY = 45;
const PICTURE = new URL('../../docs/demo-page.webp', import.meta.url).pathname;

/** A chunk of a RIFF file. */
function chunk(name, ...parts) {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(8);
  head.write(name, 'latin1');
  head.writeUInt32LE(body.length, 4);
  return Buffer.concat([head, body, Buffer.alloc(body.length % 2)]);
}

function u24(number) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes.subarray(0, 3);
}

/** The picture in a WebP file: its chunk of VP8 or VP8L data. */
function pixels(webp) {
  for (let at = 12; at < webp.length;) {
    const bytes = 8 + webp.readUInt32LE(at + 4);
    if (['VP8 ', 'VP8L'].includes(webp.toString('latin1', at, at + 4))) {
      return webp.subarray(at, at + bytes + bytes % 2);
    }
    at += bytes + bytes % 2;
  }
  throw new Error('Chromium made no picture');
}

function animation(frames) {
  const size = [u24(WIDTH - 1), u24(HEIGHT - 1)];
  const canvas = chunk('VP8X', Buffer.from([2, 0, 0, 0]), ...size);
  // No background, and repeated without end.
  const loop = chunk('ANIM', Buffer.alloc(6));
  const parts = frames.map((frame) => {
    return chunk('ANMF', u24(0), u24(0), ...size, u24(FRAME_MS), Buffer.from([2]), pixels(frame));
  });
  return chunk('RIFF', Buffer.from('WEBP'), canvas, loop, ...parts);
}

const [tiers, port, browser] = await Promise.all([startTiers(), freePort(), launch()]);
start(L1D, [
  'demo', '--page', '--page-port', port,
  '--memcached', tiers.memcached.address, '--redis', tiers.redis.url,
], { stdio: 'ignore' });
const url = `http://127.0.0.1:${port}/`;
// Long enough for every copy of 30 s to be old, and for the figures to cover no start.
await until('the demo has played for 20 s', async () => {
  return (await (await fetch(`${url}api/demo`)).json()).elapsed_ms > 20000;
}, 60);
const page = await open(browser, url, { size: [WIDTH, HEIGHT] });
await sleep(1500);
const session = await page.context().newCDPSession(page);
const frames = [];
for (let at = 0; at < FRAMES; at += 1) {
  const format = { format: 'webp', quality: QUALITY };
  const { data } = await session.send('Page.captureScreenshot', format);
  frames.push(Buffer.from(data, 'base64'));
  await sleep(FRAME_MS);
}
await browser.close();
fs.writeFileSync(PICTURE, animation(frames));
console.log(`${PICTURE}: ${fs.statSync(PICTURE).size} bytes`);
endAll();
process.exit();
