// The instance of spec/PROTOCOL.md, without I/O: what it keeps, what it sends, what a reply means.
//
// A call is a generator. It yields requests `{keys, args}`. For each it is given `{reply, resent}`,
// where `resent` says that an earlier copy of the request got no reply; or an error is thrown into
// it: `GivenUp`, or the one that Redis refused the request with.
// R2, R9, R10, R12 and R18 are kept here, on the caller's side. The server keeps R11.

const MAX = BigInt(Number.MAX_SAFE_INTEGER);
const SPAN = 2n ** 53n;
const PER_REQUEST = 100; // counters to a request that restores or drops slices
const LOOKS = 10; // counters at which a heartbeat looks
const RELEASES = 90; // counters that a heartbeat lets go of
const LOSSES = 9; // of the session, within one call
const NOTHING = { epoch: 0, count: 0, seq: 0 };

export class CounterError extends Error {
  constructor(code, message, cause) {
    super(message, { cause });
    this.code = code;
  }
}

/** A request that was sent, perhaps several times, and is never sent again. */
export class GivenUp extends Error {
  constructor(mayHaveArrived, cause) {
    super('no reply', { cause });
    this.mayHaveArrived = mayHaveArrived;
  }
}

const unknown = () =>
  new CounterError('unknown', 'it was sent and no reply came: executed once or not at all');
const notExecuted = (cause) =>
  new CounterError('not_executed', `nothing was executed: ${cause?.message ?? 'the session was lost again and again'}`);
const overflow = () => new CounterError('overflow', 'a count or total would leave ±(2^53 - 1)');
const foreign = (key) => new CounterError('invalid_key', `what Redis holds for ${key} is no counter`);

const inRange = (n) => -MAX <= n && n <= MAX;
const look = (view) => [view, [view.total, view.count]];

// R9: a view (total, epoch, count) and n -> the view after the step, and its result. `sign` is the
// step's letter in a request, '' for what is only read; `global` is what starts a new epoch (R12);
// `own` are the instance's own steps, which have no number.
export const STEPS = {
  get: { sign: '', run: look },
  look: { sign: '?', own: true, run: look },
  drop: { sign: 'x', own: true, run: look },
  inc: { sign: '+', run: (view, n) => mine(view, view.count + n, view.count + n) },
  set_on_instance: { sign: '=', run: (view, n) => mine(view, n, n) },
  delete_on_instance: { sign: '=', run: (view) => mine(view, 0n, view.count) },
  set: {
    sign: '!',
    global: true,
    run: (view, n) => [{ total: n, epoch: view.epoch + 1, count: n }, [n, n]],
  },
  delete: {
    sign: '~',
    global: true,
    run: (view) => [{ total: 0n, epoch: view.epoch + 1, count: 0n }, [view.total, view.count]],
  },
};

function mine(view, count, result) {
  const total = view.total - view.count + count;
  return [{ total, epoch: view.epoch, count }, [total, result]];
}

// R15: the conditions; the first letter is theirs in a request.
const TESTS = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  gt: (a, b) => a > b,
  always: () => true,
};
// `always` is spelled as a condition that holds for every total and count in range. Out of range the
// step is refused, whatever its condition (R15, R2).
const ALWAYS = `g${-SPAN}`;
export const isTest = (name) => Object.hasOwn(TESTS, name);

/** R15, and R2's refusals: the result is two pairs, after and before, and whether the condition held. */
function executeIf(view, { kind, n, when }) {
  const subject = kind === 'set_on_instance' ? view.count : view.total;
  const applied = TESTS[when.test](subject, when.value);
  const after = applied ? STEPS[kind].run(view, n)[0] : view;
  const pairs = [after, view].map((v) => [v.total, v.count]);
  if (!pairs.flat().every(inRange)) return [view, overflow()];
  return [after, [...pairs.map((pair) => pair.map(Number)), applied]];
}

/** R9, and R2's refusals: the view after the step, and its result or its error. */
function execute(view, step) {
  if (step.when) return executeIf(view, step);
  const { kind, n } = step;
  const [after, result] = STEPS[kind].run(view, n);
  const reported = [after.total, after.count, ...result];
  return reported.every(inRange) ? [after, result.map(Number)] : [view, overflow()];
}

function spell({ kind, n, when }) {
  const { sign, own } = STEPS[kind];
  if (!sign || own) return sign;
  const condition = when?.test === 'always' ? ALWAYS : when ? `${when.test[0]}${when.value}` : '';
  return `${condition}${sign}${n}`;
}

/** In order of the keys' bytes in UTF-8. */
export const sorted = (keys) => [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));

export class Instance {
  constructor({ prefix, id, thresholdMs, seq }) {
    this.prefix = prefix;
    this.id = id;
    this.thresholdMs = thresholdMs;
    this.session = 0;
    this.last = 0; // the session that it had last
    this.seq = seq;
    this.acked = 0;
    this.fence = 0;
    this.memory = new Map(); // key -> what this instance last knew of its slice
    this.since = 0; // the last request of the heartbeat before
    this.ahead = []; // the keys still to be looked at in this round
  }

  /** Run `work`, a Map of key -> steps (kind, n), to a Map of key -> results or errors. */
  *call(work) {
    const answers = new Map([...work.keys()].map((key) => [key, []]));
    const left = new Map([...work].map(([key, steps]) => [key, steps.map((step, at) => ({ ...step, at }))]));
    let mayHaveArrived = false;
    const losses = { left: LOSSES };
    try {
      for (;;) {
        yield* this.#ready(losses);
        const seq = ++this.seq;
        const { reply, resent } = yield this.#request(seq, left);
        if (this.#lost(reply)) {
          if (resent) {
            mayHaveArrived = true;
            dropUnknown(left, answers);
          }
          countLoss(losses);
          continue;
        }
        this.#take(seq, left, reply, answers);
        return answers;
      }
    } catch (error) {
      if (error instanceof GivenUp) {
        throw mayHaveArrived || error.mayHaveArrived ? unknown() : notExecuted(error.cause);
      }
      throw mayHaveArrived ? unknown() : error; // an error of Redis; but the steps were sent before
    }
  }

  /** R4, R10, R18: look at some counters, and let go of those that have stayed 0. */
  *heartbeat() {
    const idle = [...this.memory].filter(([, { count, seq }]) => count === 0 && seq <= this.since);
    const order = new Map(sorted(idle.map(([key]) => key)).map((key, place) => [key, place]));
    idle.sort(([a, one], [b, other]) => one.seq - other.seq || order.get(a) - order.get(b));
    const letGo = idle.slice(0, RELEASES).map(([key]) => key);
    const counts = (key) => (this.memory.get(key)?.count ?? 0) !== 0;
    if (!this.ahead.length) this.ahead = sorted([...this.memory.keys()].filter(counts));
    const looks = [];
    while (this.ahead.length && looks.length < LOOKS) {
      const key = this.ahead.shift();
      if (counts(key)) looks.push(key);
    }
    for (const key of letGo) this.memory.delete(key);
    try {
      yield* this.call(new Map([...looks, ...letGo].map((key) => [key, [{ kind: 'look', n: 0n }]])));
    } finally {
      this.since = this.seq;
    }
  }

  /** R16: drop the slices and close the session, if there is one. All is forgotten at once. */
  *leave() {
    const keys = sorted(this.memory.keys());
    this.memory.clear();
    if (this.session === 0) return;
    try {
      if (yield* this.#dropped(keys)) yield* this.#left();
    } catch (error) {
      if (!(error instanceof GivenUp)) throw error;
      throw error.mayHaveArrived ? unknown() : notExecuted(error.cause);
    } finally {
      this.session = 0;
    }
  }

  /** Drop slices. Whether there is still a session to close; if there was no reply, there may be. */
  *#dropped(keys) {
    for (let first = 0; first < keys.length; first += PER_REQUEST) {
      const some = keys.slice(first, first + PER_REQUEST);
      const seq = ++this.seq;
      try {
        const { reply } = yield this.#request(seq, new Map(some.map((key) => [key, [{ kind: 'drop' }]])));
        if (this.#lost(reply)) return false;
        this.acked = seq;
      } catch {
        return true;
      }
    }
    return true;
  }

  *#left() {
    const seq = ++this.seq;
    const { reply } = yield this.#request(seq, new Map(), `-${this.session}`);
    if (!this.#lost(reply)) this.acked = seq;
  }

  /** Open a session if there is none, and restore all that is remembered. */
  *#ready(losses) {
    while (this.session === 0) {
      try {
        yield* this.#open(losses);
        yield* this.#restore();
      } catch (error) {
        this.session = 0; // a partial session is not kept
        // This was never the call's own request: that was certainly not executed by it.
        throw error instanceof GivenUp ? new GivenUp(false, error.cause ?? error) : error;
      }
      if (this.session === 0) countLoss(losses);
    }
  }

  *#open(losses) {
    for (;;) {
      const seq = ++this.seq;
      const request = this.#request(seq, new Map());
      request.args.push(this.last, ''); // and no label
      const { reply } = yield request;
      if (!this.#lost(reply)) {
        this.session = this.last = reply[1];
        this.acked = this.fence = seq;
        return;
      }
      countLoss(losses);
    }
  }

  *#restore() {
    for (const [key, { epoch, count }] of this.memory) {
      if (epoch === 0 && count === 0) this.memory.delete(key); // as good as no memory (R18)
    }
    const keys = sorted(this.memory.keys());
    for (let first = 0; first < keys.length; first += PER_REQUEST) {
      const some = new Map(keys.slice(first, first + PER_REQUEST).map((key) => [key, []]));
      const seq = ++this.seq;
      const { reply } = yield this.#request(seq, some, `+${this.session}`);
      if (this.#lost(reply)) return;
      this.#take(seq, some, reply, new Map());
    }
  }

  #request(seq, counters, session = this.session) {
    const root = `distkit:{${this.prefix}}`;
    const keys = [`${root}:instances`, `${root}:keys`];
    const args = [this.id, session, seq, this.acked, this.thresholdMs, 0, '']; // no promise
    for (const [key, steps] of counters) {
      const spelt = steps.map(spell).join('');
      const writes = steps.some(({ kind }) => STEPS[kind].sign && !STEPS[kind].own);
      if (writes && !this.memory.has(key)) this.memory.set(key, { ...NOTHING, seq: this.fence });
      const { epoch, count, seq: made } = this.memory.get(key) ?? NOTHING;
      keys.push(`${root}:counter:${key}`);
      args.push(epoch, count, Math.max(made, this.fence), spelt);
    }
    return { keys, args };
  }

  /** Whether the reply says that the session is gone. */
  #lost([status, named]) {
    if (status === 1) return false;
    if (status === -2) throw new Error(`the prefix has layout ${named}, and this port knows 1`);
    this.session = 0;
    if (status === -1) this.seq = Math.max(this.seq, named);
    return true;
  }

  #take(seq, counters, reply, answers) {
    this.acked = seq;
    let at = 1;
    for (const [key, steps] of counters) {
      const [high, low, epoch, count] = reply.slice(at, at + 4);
      at += 4;
      if (high === null) {
        for (const step of steps) answers.get(key)[step.at] = foreign(key);
        continue;
      }
      let view = { total: BigInt(high) * SPAN + BigInt(low), epoch, count: BigInt(count) };
      for (const step of steps) {
        [view, answers.get(key)[step.at]] = execute(view, step);
      }
      if (this.memory.has(key) || view.count !== 0n) { // a mere read remembers nothing (R18)
        this.memory.set(key, { epoch: view.epoch, count: Number(view.count), seq });
      }
    }
  }
}

function countLoss(losses) {
  if (--losses.left === 0) throw new GivenUp(false);
}

// R12: the epoch may have moved on, and the value was never remembered.
function dropUnknown(left, answers) {
  for (const [key, steps] of left) {
    for (const step of steps.filter((s) => STEPS[s.kind].global)) answers.get(key)[step.at] = unknown();
    const rest = steps.filter((s) => !STEPS[s.kind].global);
    if (rest.length) left.set(key, rest);
    else left.delete(key); // nothing is left to be asked there
  }
}
