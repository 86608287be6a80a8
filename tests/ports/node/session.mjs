// The instance of spec/PROTOCOL.md, without I/O: what it keeps, what it sends, what a reply means.
//
// A call is a generator. It yields requests `{keys, args}`, and is given for each
// `{reply, resent}`, where `resent` says that an earlier copy of the request got no reply; or an
// error is thrown into it: `GivenUp`, or what the server refused the request with.
// It keeps R2, R9, R10 and R12 on the caller's side; fencing (R11) is the server's.

const MAX = BigInt(Number.MAX_SAFE_INTEGER);
const SPAN = 2n ** 53n;
const PER_REQUEST = 100; // counters to a request, when slices are put back or many are cleared
const LOSSES = 9; // of the session, within one call
const ZERO = { epoch: 0, count: 0, seq: 0 };

export class CounterError extends Error {
  constructor(code, message) {
    super(message);
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

// R9: the state before (total, epoch, count) and n -> the state after and the result. `sign` is the
// step's letter in a request, '' for what is only read; `global` is what moves the epoch (R12).
export const STEPS = {
  get: { sign: '', run: (s) => [s, [s.total, s.count]] },
  inc: {
    sign: '+',
    run: (s, n) => mine(s, s.count + n, s.count + n),
  },
  set_on_instance: { sign: '=', run: (s, n) => mine(s, n, n) },
  delete_on_instance: { sign: '=', run: (s) => mine(s, 0n, s.count) },
  set: {
    sign: '!',
    global: true,
    run: (s, n) => [{ total: n, epoch: s.epoch + 1, count: n }, [n, n]],
  },
  delete: {
    sign: '~',
    global: true,
    run: (s) => [{ total: 0n, epoch: s.epoch + 1, count: 0n }, [s.total, s.count]],
  },
};

function mine(state, count, answer) {
  const total = state.total - state.count + count;
  return [{ total, epoch: state.epoch, count }, [total, answer]];
}

// R15: the conditions, each with its letter in a request.
const TESTS = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  gt: (a, b) => a > b,
  always: () => true,
};
// In a request `always` is a condition that holds for every total and count in range; out of range
// the step is refused, whatever its condition (R15, R2).
const ALWAYS = `g${-SPAN}`;
export const isTest = (name) => Object.hasOwn(TESTS, name);

/** R15 with R2's refusals: the answer is two pairs, after and before, and whether the condition held. */
function executeIf(state, { kind, n, when }) {
  const subject = kind === 'set_on_instance' ? state.count : state.total;
  const applied = TESTS[when.test](subject, when.value);
  const after = applied ? STEPS[kind].run(state, n)[0] : state;
  const pairs = [after, state].map((s) => [s.total, s.count]);
  if (!pairs.flat().every(inRange)) return [state, overflow()];
  return [after, [...pairs.map((pair) => pair.map(Number)), applied]];
}

/** R9 with R2's refusals: the state after, and the answer or the error. */
function execute(state, step) {
  if (step.when) return executeIf(state, step);
  const { kind, n } = step;
  const [after, answer] = STEPS[kind].run(state, n);
  const reported = [after.total, after.count, ...answer];
  return reported.every(inRange) ? [after, answer.map(Number)] : [state, overflow()];
}

function condition({ when }) {
  if (!when) return '';
  return when.test === 'always' ? ALWAYS : `${when.test[0]}${when.value}`;
}
const written = (step) => STEPS[step.kind].sign && `${condition(step)}${STEPS[step.kind].sign}${step.n}`;

export class Session {
  constructor({ prefix, instance, thresholdMs, seq }) {
    this.prefix = prefix;
    this.instance = instance;
    this.thresholdMs = thresholdMs;
    this.session = 0;
    this.last = 0; // the session before, once it is lost
    this.seq = seq;
    this.acked = 0;
    this.fence = 0;
    this.memory = new Map(); // key -> what this instance last knew of its slice
  }

  /** Run `work`, a Map of key -> steps (kind, n), to a Map of key -> answers or errors. */
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
      if (!(error instanceof GivenUp)) throw error;
      throw mayHaveArrived || error.mayHaveArrived ? unknown() : notExecuted(error.cause);
    }
  }

  /** R16: close the session, if there is one. Whatever comes of it, it is over, and all forgotten. */
  *leave() {
    for (const [key, memory] of this.memory) this.memory.set(key, { ...memory, count: 0 });
    if (this.session === 0) return;
    const seq = ++this.seq;
    const request = this.#request(seq, new Map(), -this.session);
    this.session = 0;
    try {
      const { reply } = yield request;
      if (!this.#lost(reply)) this.acked = seq;
    } catch (error) {
      if (!(error instanceof GivenUp)) throw error;
      throw error.mayHaveArrived ? unknown() : notExecuted(error.cause);
    }
  }

  /** Open a session if there is none, and put back all that is remembered. */
  *#ready(losses) {
    while (this.session === 0) {
      try {
        yield* this.#open(losses);
        yield* this.#putBack();
      } catch (error) {
        this.session = 0; // half of it put back is not put back
        // This was never the call's own request: that is surely not executed by it.
        throw error instanceof GivenUp ? new GivenUp(false, error.cause ?? error) : error;
      }
      if (this.session === 0) countLoss(losses);
    }
  }

  *#open(losses) {
    for (;;) {
      const seq = ++this.seq;
      const request = this.#request(seq, new Map());
      request.args.push(this.last);
      const { reply } = yield request;
      if (!this.#lost(reply)) {
        this.session = this.last = reply[1];
        this.acked = this.fence = seq;
        return;
      }
      countLoss(losses);
    }
  }

  *#putBack() {
    const keys = [...this.memory.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    for (let first = 0; first < keys.length; first += PER_REQUEST) {
      const some = new Map(keys.slice(first, first + PER_REQUEST).map((key) => [key, []]));
      const seq = ++this.seq;
      const { reply } = yield this.#request(seq, some);
      if (this.#lost(reply)) return;
      this.#take(seq, some, reply, new Map());
    }
  }

  #request(seq, counters, session = this.session) {
    const root = `distkit:{${this.prefix}}`;
    const keys = [`${root}:instances`, `${root}:keys`];
    const args = [this.instance, session, seq, this.acked, this.thresholdMs, ''];
    for (const [key, steps] of counters) {
      const steps_ = steps.map(written).join('');
      if (steps_ && !this.memory.has(key)) this.memory.set(key, ZERO);
      const { epoch, count, seq: made } = this.memory.get(key) ?? ZERO;
      keys.push(`${root}:counter:${key}`);
      args.push(epoch, count, Math.max(made, this.fence), steps_);
    }
    return { keys, args };
  }

  /** Whether the reply says that the session is gone. */
  #lost([status, named]) {
    if (status === 1) return false;
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
      let state = { total: BigInt(high) * SPAN + BigInt(low), epoch, count: BigInt(count) };
      for (const step of steps) {
        [state, answers.get(key)[step.at]] = execute(state, step);
      }
      if (this.memory.has(key) || state.epoch !== 0 || state.count !== 0n) {
        this.memory.set(key, { epoch: state.epoch, count: Number(state.count), seq });
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
