// The counter on Node as a port: JSON Lines over stdin and stdout, spec/PORTS.md.
// Redis is DISTKIT_URL, redis://127.0.0.1:6379 unless given.

import { createInterface } from 'node:readline';
import { createClient } from 'redis';
import { Counter, CounterError } from './counter.mjs';

const ON_A_KEY = ['get', 'inc', 'dec', 'set', 'set_on_instance', 'delete', 'delete_on_instance'];
const CONDITIONAL = ['inc_if', 'set_if', 'set_on_instance_if'];
const OTHERS = ['heartbeat', 'clear_on_instance', 'clear', 'leave'];

const client = createClient({ url: process.env.DISTKIT_URL, disableOfflineQueue: true });
client.on('error', (error) => console.error(error.message));
await client.connect();

let history; // { prefix, threshold_ms }
let instances = new Map();
let wallMs;
let loseReply = false;
let giveUp = false;

// Between the counter and its client: drops the reply of the next script call when told to,
// or of all of them.
const lossy = {
  async sendCommand(command, options) {
    const reply = await client.sendCommand(command, options);
    if ((loseReply || giveUp) && command[0].startsWith('EVAL')) {
      loseReply = false;
      throw new Error('the reply was lost');
    }
    return reply;
  },
};

function join(name) {
  const counter = new Counter(lossy, history.prefix, {
    thresholdMs: history.threshold_ms, instance: name, wallMs: () => wallMs ?? '',
    attempts: 2,
  });
  instances.set(name, counter);
  return counter;
}

async function call(message) {
  const counter = instances.get(message.instance) ?? join(message.instance);
  wallMs = message.wall_ms;
  loseReply = message.lose_reply ?? false;
  giveUp = message.give_up ?? false;
  const { key, comparator, value, count } = message;
  if (CONDITIONAL.includes(message.op)) {
    const [after, before, applied] = await counter[message.op](key, comparator, value, count);
    return { new: named(after), old: named(before), applied };
  }
  const answer = await counter[message.op](...(key === undefined ? [] : [key, count]));
  return answer ? named(answer) : {};
}

const named = ([cumulative, instance_count]) => ({ cumulative, instance_count });

const EVENTS = {
  hello: () => ({
    protocol: 1, port: 'distkit for Node', clock: 'virtual', instances: 'many',
    operations: [...ON_A_KEY, ...CONDITIONAL, ...OTHERS], faults: ['lose_reply', 'give_up', 'empty'],
    features: ['applied', 'always'],
  }),
  reset(message) {
    history = message;
    instances = new Map();
    return {};
  },
  die(message) {
    instances.delete(message.instance);
    return {};
  },
  async empty() {
    const root = `distkit:{${history.prefix}}`;
    const keys = await client.sMembers(`${root}:keys`);
    await client.del([`${root}:instances`, `${root}:keys`, ...keys.map((key) => `${root}:counter:${key}`)]);
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  let answer;
  try {
    answer = await (EVENTS[message.op] ?? call)(message);
  } catch (error) {
    if (!(error instanceof CounterError)) throw error;
    answer = { error: error.code, message: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
client.destroy();
