// Real servers, a real daemon and a real load, in a directory of their own.

import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const PROGRAMS = process.env.L1D_PROGRAMS;
export const L1D = path.join(PROGRAMS, 'l1d');
const L1CTL = path.join(PROGRAMS, 'l1ctl');

const children = new Set();
const directories = new Set();

/** Ends everything that was started here. */
export function endAll() {
  for (const child of children) child.kill('SIGKILL');
  for (const directory of directories) fs.rmSync(directory, { recursive: true, force: true });
}
process.on('exit', endAll);

/** Waits until `ready` returns something true. */
export async function until(what, ready, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  let last;
  while (Date.now() < end) {
    last = await Promise.resolve().then(ready).catch((error) => void (last = error));
    if (last) return last;
    await sleep(50);
  }
  throw new Error(`after ${seconds} s still not: ${what}`);
}

export function start(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'], ...options });
  children.add(child);
  child.on('exit', () => children.delete(child));
  return child;
}

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true) ?? socket.destroy());
    socket.on('error', () => resolve(false));
  });
}

function has(program) {
  return process.env.PATH.split(':').some((place) => fs.existsSync(path.join(place, program)));
}

/** memcached and Redis; where one is not installed, the daemon does without it. */
export async function startTiers() {
  const tiers = {};
  if (has('memcached')) {
    const port = await freePort();
    const user = os.userInfo().uid === 0 ? ['-u', 'nobody'] : [];
    tiers.memcached = {
      process: start('memcached', ['-p', port, '-l', '127.0.0.1', ...user]),
      address: `127.0.0.1:${port}`,
    };
    await until('memcached accepts', () => accepts(port));
  }
  if (has('redis-server')) {
    const port = await freePort();
    const args = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    tiers.redis = { process: start('redis-server', args), url: `redis://127.0.0.1:${port}/0` };
    await until('Redis accepts', () => accepts(port));
  }
  return tiers;
}

/** A daemon with a table and sockets of its own, and its status page at two places. */
export class Daemon {
  static async start({ tiers = {}, policies = '' } = {}) {
    const daemon = new Daemon();
    daemon.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'l1d-browser.'));
    directories.add(daemon.directory);
    daemon.socket = path.join(daemon.directory, 'l1d.sock');
    daemon.statusSocket = path.join(daemon.directory, 'status.sock');
    const port = await freePort();
    /** Where everybody may look. */
    daemon.openUrl = `http://127.0.0.1:${port}/`;
    const { memcached, redis } = tiers;
    fs.writeFileSync(path.join(daemon.directory, 'l1d.toml'), [
      memcached ? `[l2]\naddress = "${memcached.address}"\n` : '',
      redis ? `[l3]\nurl = "${redis.url}"\n` : '',
      `[status]\nsocket = "${daemon.statusSocket}"\nlisten = "127.0.0.1:${port}"\n`,
      policies,
    ].join('\n'));
    fs.mkdirSync(path.join(daemon.directory, 'table'));
    await daemon.run();
    /** Where readers look: the status socket, which `l1ctl page` passes on to. */
    daemon.url = await daemon.page();
    return daemon;
  }

  async run() {
    this.process = start(L1D, [
      'serve', '--config', path.join(this.directory, 'l1d.toml'), '--socket', this.socket,
      '--table-directory', path.join(this.directory, 'table'), '--table-size', '16MiB',
    ], { stdio: ['ignore', 'ignore', fs.openSync(path.join(this.directory, 'log'), 'a')] });
    await until('the daemon is ready', async () => (await fetch(`${this.openUrl}readyz`)).ok)
      .catch((error) => {
        throw new Error(`${error.message}: ${fs.readFileSync(path.join(this.directory, 'log'))}`);
      });
  }

  /** The processes of the demo, which publish market data and read it. */
  load() {
    return ['monitor', 'web'].map((role) => {
      const args = ['demo-worker', '--role', role, '--way', 'l1d', '--socket', this.socket];
      const worker = start(L1D, args, { stdio: ['pipe', 'ignore', 'ignore'] });
      worker.stdin.on('error', () => {});
      worker.stdin.write('begin\n');
      return worker;
    });
  }

  ctl(...args) {
    return execFileSync(L1CTL, ['--socket', this.socket, ...args], { encoding: 'utf8' });
  }

  async page() {
    const args = ['--socket', this.socket, 'page', '--status-socket', this.statusSocket];
    const { stdout } = start(L1CTL, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    for await (const line of readline.createInterface(stdout)) {
      if (line.startsWith('http://')) return line;
    }
    throw new Error('l1ctl page printed no address');
  }
}
