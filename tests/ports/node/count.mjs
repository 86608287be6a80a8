// A process that counts: `node count.mjs PREFIX KEY TIMES THRESHOLD_MS`, on DISTKIT_URL. It adds 1
// that many times, says what it was told last, and waits to be killed.

import { createClient } from 'redis';
import { Counter } from './counter.mjs';

const [prefix, key, times, thresholdMs] = process.argv.slice(2);
const client = createClient({ url: process.env.DISTKIT_URL, disableOfflineQueue: true });
client.on('error', (error) => console.error(error.message));
await client.connect();
const counter = new Counter(client, prefix, { thresholdMs: Number(thresholdMs) });
let last;
for (let i = 0; i < Number(times); i++) last = await counter.inc(key);
console.log(JSON.stringify(last));
