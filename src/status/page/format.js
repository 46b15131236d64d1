'use strict';
// Figures as `l1ctl stats` writes them: three digits and a unit.

/** Between a number and its unit: no line breaks there. */
const SPACE = '\u00a0';

/** Text of others, without characters that change how the text around them is shown. */
function shown(text) {
  return String(text).replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '?');
}

function scaled(figure, step, units) {
  let unit = 0;
  let isWhole = Number.isInteger(figure);
  while (figure >= 999.5 && (step < 1001 || figure >= 1023.5) && unit + 1 < units.length) {
    figure /= step;
    unit += 1;
    isWhole = false;
  }
  const digits = isWhole || figure >= 99.95 ? 0 : figure >= 9.995 ? 1 : 2;
  return `${figure.toFixed(digits)}${SPACE}${units[unit]}`.trim();
}

/** A count: `999`, `12.3k`, `4.56M`. */
function count(number) {
  return scaled(number ?? 0, 1000, ['', 'k', 'M', 'G', 'T', 'P', 'E']).replace(SPACE, '');
}

/** A rate: `1.23k/s`. */
function rate(perSecond) {
  return `${scaled(perSecond ?? 0, 1000, ['', 'k', 'M', 'G']).replace(SPACE, '')}/s`;
}

/** A size: `512 B`, `1.50 MiB`. */
function size(bytes) {
  return scaled(bytes ?? 0, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']);
}

/** A percentage; not "100.0 %" while something is missing. */
function percent(value) {
  if (value === null || value === undefined) return '–';
  return value < 100 && value > 99.94 ? `99.9${SPACE}%` : `${value.toFixed(1)}${SPACE}%`;
}

/** A part in percent of the whole; `null` unless there is a whole. */
function part(of, whole) {
  return whole > 0 ? of * 100 / whole : null;
}

/** A span of time in its two largest units. */
function span(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (large, unit, small, lesser) =>
    [large, unit, ...small === 0 ? [] : [small, lesser]].join(SPACE);
  const whole = (by) => Math.floor(seconds / by);
  if (seconds === 0) return `${Math.floor(ms)}${SPACE}ms`;
  if (seconds < 60) return `${seconds}${SPACE}s`;
  if (seconds < 3600) return two(whole(60), 'min', seconds % 60, 's');
  if (seconds < 86400) return two(whole(3600), 'h', whole(60) % 60, 'min');
  return two(whole(86400), 'd', whole(3600) % 24, 'h');
}

/** Microseconds: `312 µs`, `4.5 ms`. */
function micros(us) {
  if (us === null || us === undefined) return '–';
  if (us < 1000) return `${us}${SPACE}µs`;
  return us < 1e6 ? `${(us / 1e3).toFixed(1)}${SPACE}ms` : `${(us / 1e6).toFixed(1)}${SPACE}s`;
}

/** A word with its number: `1 client`, `2 clients`. */
function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
