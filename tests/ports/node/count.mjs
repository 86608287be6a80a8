// A process that counts: `node count.mjs PREFIX KEY TIMES THRESHOLD_MS`, on DISTKIT_URL. It says what
// it sees, adds 1 that many times, and then says what it sees once for each line that it reads.

import { createInterface } from 'node:readline';
import { createClient } from 'redis';
import { Counter } from './counter.mjs';

const [prefix, key, times, thresholdMs] = process.argv.slice(2);
const client = createClient({
  url: process.env.DISTKIT_URL,
  disableOfflineQueue: true,
  socket: { reconnectStrategy: 10 }, // ms
});
client.on('error', (error) => console.error(error.message));
await client.connect();
const counter = new Counter(client, prefix, { thresholdMs: Number(thresholdMs) });
const look = async () => console.log(JSON.stringify(await counter.get(key)));
await look();
for (let i = 0; i < Number(times); i++) await counter.inc(key);
for await (const _ of createInterface({ input: process.stdin })) {
  await look();
}
client.destroy();
