// A headless Chromium that talks to nobody but the page's server, and what every page must keep to.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const ARTEFACTS = new URL('../screenshots/', import.meta.url).pathname;

export const SIZES = [[360, 740], [800, 600], [1440, 900]];
export const SCHEMES = ['light', 'dark'];

export function launch() {
  fs.mkdirSync(ARTEFACTS, { recursive: true });
  // Playwright gives it an empty profile.
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/** Opens a page, and records what it asks for and what goes wrong. */
export async function open(browser, url, options = {}) {
  const { size: [width, height] = [1440, 900], scheme = 'light', init } = options;
  const context = options.context
    ?? await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
  const page = await context.newPage();
  page.requests = [];
  page.faults = [];
  page.on('request', (request) => page.requests.push(request.url()));
  page.on('console', (message) => page.faults.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => page.faults.push(`error: ${error.stack}`));
  page.on('dialog', (dialog) => page.faults.push(`dialog: ${dialog.message()}`));
  if (init) await page.addInitScript(init);
  await page.goto(url);
  return page;
}

export async function text(page, selector) {
  return (await page.textContent(selector)).replaceAll('\u00a0', ' ').trim();
}

/** Waits until the text of an element is as wanted, and returns it. */
export async function textWhen(page, selector, pattern) {
  await page.waitForFunction(([selector, source]) => {
    const text = document.querySelector(selector)?.textContent.replaceAll('\u00a0', ' ') ?? '';
    return new RegExp(source).test(text);
  }, [selector, pattern.source], { timeout: 15000 });
  return text(page, selector);
}

export function screenshot(page, name) {
  return page.screenshot({ path: `${ARTEFACTS}${name}.png`, fullPage: true });
}

/** Nothing was said in the console, and nobody but the page's own server was asked. */
export function assertQuiet(page) {
  assert.deepEqual(page.faults, []);
  const { origin } = new URL(page.url());
  const others = page.requests.filter((url) => !url.startsWith('data:'))
    .filter((url) => new URL(url).origin !== origin);
  assert.deepEqual(others, [], 'asked others');
}

export async function assertAccessible(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html)}`);
  assert.deepEqual(found, []);
}

/** No box lies over another, no text leaves its box, and the page does not scroll sideways. */
export async function assertLayout(page) {
  assert.deepEqual(await page.evaluate(layoutFaults), []);
}

function layoutFaults() {
  const faults = [];
  const name = (element) => `${element.tagName} ${element.id || element.className?.baseVal
    || element.className} ${JSON.stringify(element.textContent.slice(0, 30))}`;
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const compare = (elements) => {
    const boxes = elements.map((element) => [element, element.getBoundingClientRect()]);
    boxes.forEach(([one, box], place) => {
      for (const [other, otherBox] of boxes.slice(place + 1)) {
        if (overlap(box, otherBox)) faults.push(`${name(one)} lies over ${name(other)}`);
      }
    });
  };
  const isBox = (element) => element.checkVisibility() && !element.matches('.unseen, .skip')
    && !['inline', 'contents'].includes(getComputedStyle(element).display);
  for (const parent of document.querySelectorAll('body, body *:not(svg *)')) {
    if (!isBox(parent)) continue;
    if (parent.tagName === 'svg') {
      compare([...parent.querySelectorAll('text')]);
      continue;
    }
    compare([...parent.children].filter(isBox));
    const scrolls = getComputedStyle(parent).overflowX !== 'visible';
    if (!scrolls && parent.clientWidth > 0 && parent.scrollWidth > parent.clientWidth + 1) {
      faults.push(`${name(parent)} is wider than its box`);
    }
  }
  const { scrollWidth } = document.documentElement;
  if (scrollWidth > innerWidth) faults.push(`scrolls sideways: ${scrollWidth} of ${innerWidth}`);
  return faults;
}
