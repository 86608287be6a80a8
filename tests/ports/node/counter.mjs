// StrictInstanceAwareCounter on node-redis. One object is one instance; its calls go one by one.
//
// It shares counters with every process that runs distkit/redis/counter.lua. What it keeps
// and sends is in instance.mjs; here are the checks on arguments (R1, R2), the wire, and the retries (R11).

import { createHash, randomInt, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ClientClosedError, ClientOfflineError, ErrorReply, RESP_TYPES } from 'redis';
import { CounterError, GivenUp, Instance, isTest, sorted } from './instance.mjs';

const SCRIPT = readFileSync(new URL('../../../distkit/redis/counter.lua', import.meta.url), 'utf8');
const SHA = createHash('sha1').update(SCRIPT).digest('hex');
const PER_REQUEST = 100; // counters
const STEPS_PER_REQUEST = 512;
const WALL = 6; // ARGV[7]
// node-redis 6.3.1 computes a number digit by digit, with 48 too much in between: from 2^53 - 48 on
// that rounds. As text they are exact.
const AS_LIST = { typeMapping: { [RESP_TYPES.MAP]: Array } };
const AS_TEXT = { typeMapping: { [RESP_TYPES.NUMBER]: String } };

export { CounterError };

/** R1. */
function checkName(what, name, forbidden) {
  const ok =
    typeof name === 'string' && name.isWellFormed() && !forbidden.test(name) &&
    name.length > 0 && Buffer.byteLength(name) <= 255;
  if (!ok) {
    throw new CounterError('invalid_key', `${what} must be 1 to 255 bytes of text without ${forbidden.source}: ${name}`);
  }
  return name;
}

/** R2: a number that is no integer is the caller's mistake; one outside of the range is refused. */
function checkCount(n) {
  if (!Number.isInteger(n)) throw new CounterError('invalid_count', `a count must be an integer: ${n}`);
  if (!Number.isSafeInteger(n)) throw new CounterError('overflow', `a count must be within ±(2^53 - 1): ${n}`);
  return BigInt(n);
}

/** R15. `always` has no value. */
function checkCondition(test, value) {
  if (!isTest(test)) throw new CounterError('invalid_comparator', `eq, ne, lt, gt or always, not ${test}`);
  return test === 'always' ? { test } : { test, value: checkCount(value) };
}

/** A step from its operation and arguments; the key is checked first, then the numbers. */
function makeStep(operation, key, ...rest) {
  checkName('key', key, /:/);
  const kind = operation.replace(/_if$/, '');
  if (operation !== kind) {
    const [test, value, n = 1] = rest;
    return { key, kind, n: checkCount(n), when: checkCondition(test, value) };
  }
  if (['get', 'delete', 'delete_on_instance'].includes(kind)) return { key, kind, n: 0n };
  const [n = 1] = rest;
  return kind === 'dec' ? { key, kind: 'inc', n: -checkCount(n) } : { key, kind, n: checkCount(n) };
}

const ENDS = ['unknown', 'not_executed'];

function* pieces(steps) {
  let piece = [];
  let keys = new Set();
  for (const step of steps) {
    if (piece.length === STEPS_PER_REQUEST || (keys.size === PER_REQUEST && !keys.has(step.key))) {
      yield piece;
      piece = [];
      keys = new Set();
    }
    piece.push(step);
    keys.add(step.key);
  }
  yield piece;
}

export class Counter {
  #client;
  #instance;
  #wallMs;
  #attempts;
  #busy = Promise.resolve();

  /**
   * `client`: node-redis's, connected, with `disableOfflineQueue`, so that a call which was never
   * sent is known as such. `wallMs`: gives the server's wall clock; without it Redis's own TIME.
   * `attempts`: how often a request is sent before the call is given up, within some seconds.
   */
  constructor(client, prefix, { thresholdMs = 30_000, instance, wallMs = () => '', attempts = 8 } = {}) {
    this.#client = client;
    this.#wallMs = wallMs;
    this.#attempts = attempts;
    this.#instance = new Instance({
      prefix: checkName('prefix', prefix, /[:{}]/),
      id: checkName('instance id', instance ?? randomUUID(), /:/),
      thresholdMs,
      seq: instance === undefined ? 0 : randomInt(2 ** 48 - 1), // an earlier life may have numbered
    });
  }

  async inc(key, n = 1) { return this.#one('inc', key, n); }
  async dec(key, n = 1) { return this.#one('dec', key, n); }
  async get(key) { return this.#one('get', key); }
  async set(key, n) { return this.#one('set', key, n); }
  async delete(key) { return this.#one('delete', key); }
  async set_on_instance(key, n) { return this.#one('set_on_instance', key, n); }
  async delete_on_instance(key) { return this.#one('delete_on_instance', key); }
  async inc_if(key, test, value, n = 1) { return this.#one('inc_if', key, test, value, n); }
  async set_if(key, test, value, n) { return this.#one('set_if', key, test, value, n); }
  async set_on_instance_if(key, test, value, n) { return this.#one('set_on_instance_if', key, test, value, n); }

  /** Steps `[operation, key, ...]` in order; gives for each its answer or its error. */
  async batch(steps) {
    const made = steps.map((step) => makeStep(...step));
    return this.#alone(() => this.#inPieces(made));
  }

  heartbeat() { return this.#alone(() => this.#drive(this.#instance.heartbeat())); }

  clear_on_instance() {
    return this.#alone(() => this.#all([...this.#instance.memory.keys()], { kind: 'set_on_instance', n: 0n }));
  }

  /** R16. */
  leave() { return this.#alone(() => this.#drive(this.#instance.leave())); }

  clear() {
    return this.#alone(async () => {
      const stored = await this.#stored();
      const keys = new Set([...stored, ...this.#instance.memory.keys()]);
      await this.#all([...keys], { kind: 'set', n: 0n });
    });
  }

  async #one(...step) {
    const [answer] = await this.batch([step]);
    if (answer instanceof Error) throw answer;
    return answer;
  }

  async #stored() {
    try {
      const listed = await this.#client.sendCommand(['HGETALL', `distkit:{${this.#instance.prefix}}:keys`], AS_LIST);
      return listed.filter((_, at) => at % 2 === 0 && listed[at + 1] === '0'); // the others are tombstones
    } catch (error) {
      if (error instanceof ErrorReply) throw error;
      throw new CounterError('not_executed', `nothing was cleared: ${error.message}`);
    }
  }

  /** One step on every key, in order of their bytes; the first error is thrown when all have run. */
  async #all(keys, step) {
    const outcomes = await this.#inPieces(sorted(keys).map((key) => ({ key, ...step })));
    const error = outcomes.find((outcome) => outcome instanceof Error);
    if (error) throw error;
  }

  /** Steps in as many requests as they need. After one without a reply the rest is not sent. */
  async #inPieces(steps) {
    const outcomes = [];
    for (const piece of pieces(steps)) {
      const some = await this.#piece(piece);
      outcomes.push(...some);
      if (some.some((outcome) => outcome instanceof ErrorReply || ENDS.includes(outcome.code))) break;
    }
    const notSent = new CounterError('not_executed', 'an earlier part of the batch got no reply');
    return [...outcomes, ...Array(steps.length - outcomes.length).fill(notSent)];
  }

  async #piece(steps) {
    const byKey = new Map();
    for (const step of steps) byKey.set(step.key, [...(byKey.get(step.key) ?? []), step]);
    let answers;
    try {
      answers = await this.#run(byKey);
    } catch (error) {
      if (!steps.length || !(error instanceof CounterError || error instanceof ErrorReply)) throw error;
      return steps.map(() => error);
    }
    const given = new Map([...answers].map(([key, some]) => [key, some.values()]));
    return steps.map(({ key }) => given.get(key).next().value);
  }

  /** One request in flight: calls of one instance wait for each other. */
  #alone(call) {
    const done = this.#busy.then(call);
    this.#busy = done.catch(() => {});
    return done;
  }

  #run(work) {
    return this.#drive(this.#instance.call(work));
  }

  async #drive(call) {
    let step = call.next();
    while (!step.done) {
      let came;
      try {
        came = await this.#send(step.value);
      } catch (error) {
        step = call.throw(error);
        continue;
      }
      step = call.next(came);
    }
    return step.value;
  }

  async #send({ keys, args }) {
    let mayHaveArrived = false;
    for (let attempt = 1; ; attempt++) {
      try {
        return { reply: await this.#transmit(keys, args), resent: mayHaveArrived };
      } catch (error) {
        if (error instanceof ErrorReply) throw mayHaveArrived ? new GivenUp(true, error) : error;
        mayHaveArrived ||= !(error instanceof ClientOfflineError || error instanceof ClientClosedError);
        if (attempt === this.#attempts) throw new GivenUp(mayHaveArrived, error);
        await new Promise((resolve) => setTimeout(resolve, 20 * (2 ** (attempt - 1) - 1)));
      }
    }
  }

  async #transmit(keys, args) {
    const argv = args.with(WALL, this.#wallMs()).map(String);
    const rest = [String(keys.length), ...keys, ...argv];
    const reply = await this.#evaluate(rest);
    return reply.map((n) => (n === null ? null : Number(n)));
  }

  async #evaluate(rest) {
    try {
      return await this.#client.sendCommand(['EVALSHA', SHA, ...rest], AS_TEXT);
    } catch (error) {
      if (!(error instanceof ErrorReply && error.message.startsWith('NOSCRIPT'))) throw error;
      return this.#client.sendCommand(['EVAL', SCRIPT, ...rest], AS_TEXT);
    }
  }
}
