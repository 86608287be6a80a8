// The counter on Node as a port: the line protocol of spec/PORTS.md on stdin and stdout.
// Redis is DISTKIT_URL, redis://127.0.0.1:6379 unless given.

import { createInterface } from 'node:readline';
import { ErrorReply, RESP_TYPES, createClient } from 'redis';
import { Counter, CounterError } from './counter.mjs';

const ON_A_KEY = ['get', 'inc', 'dec', 'set', 'set_on_instance', 'delete', 'delete_on_instance'];
const CONDITIONAL = ['inc_if', 'set_if', 'set_on_instance_if'];
const OTHERS = ['heartbeat', 'clear_on_instance', 'clear', 'leave', 'batch', 'together'];
const FAULTS = ['lose_reply', 'give_up', 'lose_replies', 'give_up_from', 'refuse', 'late_copy',
  'empty', 'lose_key', 'rollback', 'reuse'];
const WALL = 6; // ARGV[7]
const AS_BYTES = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };

const client = createClient({ url: process.env.DISTKIT_URL, disableOfflineQueue: true });
client.on('error', (error) => console.error(error.message));
await client.connect();

let history; // { prefix, threshold_ms }
let instances = new Map();
let keys = new Set(); // those that the history names
let copies = []; // commands that the network has kept
let snapshot = new Map(); // Redis key -> what DUMP said
let wallMs;
let faults;

// What becomes of the requests of one call, counted from 1. One that is sent again keeps its number.
class Faults {
  #number = 0;
  #answered = true;

  constructor({ lose_reply, lose_replies = [], give_up, give_up_from = Infinity, refuse, copy }) {
    this.lost = new Set(lose_reply ? [...lose_replies, 1] : lose_replies);
    this.givenUpFrom = give_up ? 1 : give_up_from;
    this.refused = refuse;
    this.copied = copy;
  }

  async send(command, options) {
    if (this.#answered) {
      this.#number += 1;
      if (this.#number === this.copied) copies.push(command);
    }
    this.#answered = false;
    if (this.#number === this.refused && !this.lost.has(this.#number)) {
      this.#answered = true;
      throw new ErrorReply("OOM command not allowed when used memory > 'maxmemory'.");
    }
    const reply = await client.sendCommand(command, options); // NOSCRIPT: the same request follows
    if (this.lost.delete(this.#number) || this.#number >= this.givenUpFrom) {
      throw new Error('the reply was lost');
    }
    this.#answered = true;
    return reply;
  }
}

// Between the counter and its client: runs of the script meet the faults, all else passes.
const faulty = {
  sendCommand(command, options) {
    const isScript = command[0].startsWith('EVAL');
    return isScript ? faults.send(command, options) : client.sendCommand(command, options);
  },
};

function join(name) {
  const counter = new Counter(faulty, history.prefix, {
    thresholdMs: history.threshold_ms, instance: name, wallMs: () => wallMs ?? '',
    attempts: 2,
  });
  instances.set(name, counter);
  return counter;
}

async function call(message) {
  const counter = instances.get(message.instance) ?? join(message.instance);
  wallMs = message.wall_ms;
  faults = new Faults(message);
  for (const { key } of [message, ...(message.steps ?? []), ...(message.calls ?? [])]) {
    if (key !== undefined) keys.add(key);
  }
  if (message.op === 'together') {
    return { answers: await Promise.all(message.calls.map((asked) => answered(() => single(counter, asked)))) };
  }
  if (message.op === 'batch') {
    const outcomes = await counter.batch(message.steps.map(({ op, key, comparator, value, count }) =>
      [op, key, ...(comparator ? [comparator, value] : []), count]));
    return { answers: outcomes.map((outcome, at) =>
      outcome instanceof Error ? failed(outcome) : named(message.steps[at].op, outcome)) };
  }
  return single(counter, message);
}

async function single(counter, { op, key, comparator, value, count }) {
  if (key === undefined) {
    await counter[op]();
    return {};
  }
  const given = comparator ? [comparator, value] : [];
  return named(op, await counter[op](key, ...given, count));
}

async function answered(ask) {
  try {
    return await ask();
  } catch (error) {
    return failed(error);
  }
}

function failed(error) {
  if (error instanceof CounterError) return { error: error.code, message: error.message };
  if (error instanceof ErrorReply) return { error: 'refused', message: error.message };
  throw error;
}

const pair = ([cumulative, instance_count]) => ({ cumulative, instance_count });

function named(op, answer) {
  if (!CONDITIONAL.includes(op)) return pair(answer);
  const [after, before, applied] = answer;
  return { new: pair(after), old: pair(before), applied };
}

// Every Redis key that this history may have made. The server is not searched: it may hold many others.
function redisKeys() {
  const root = `distkit:{${history.prefix}}`;
  return [`${root}:instances`, `${root}:keys`, ...[...keys].map((key) => `${root}:counter:${key}`)];
}

const EVENTS = {
  hello: () => ({
    protocol: 1, port: 'distkit for Node', clock: 'virtual', instances: 'many',
    operations: [...ON_A_KEY, ...CONDITIONAL, ...OTHERS], faults: FAULTS,
    features: ['applied', 'always'],
  }),
  reset(message) {
    history = message;
    instances = new Map();
    keys = new Set();
    copies = [];
    snapshot = new Map();
    return {};
  },
  die(message) {
    instances.delete(message.instance);
    return {};
  },
  async empty() {
    await client.del(redisKeys());
    return {};
  },
  async lose_key({ key }) {
    await client.del(`distkit:{${history.prefix}}:counter:${key}`);
    return {};
  },
  async snapshot() {
    snapshot = new Map();
    for (const name of redisKeys()) {
      const content = await client.sendCommand(['DUMP', name], AS_BYTES);
      if (content !== null) snapshot.set(name, content);
    }
    return {};
  },
  async roll_back() {
    await client.del(redisKeys());
    for (const [name, content] of snapshot) await client.sendCommand(['RESTORE', name, '0', content]);
    return {};
  },
  async late_copy({ wall_ms }) {
    for (const command of copies) {
      const wall = 3 + Number(command[2]) + WALL;
      await client.sendCommand(command.with(wall, String(wall_ms)));
    }
    copies = [];
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  const answer = await answered(async () => (EVENTS[message.op] ?? call)(message));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
client.destroy();
