// A program whose hot function is known, profiled by the Node SDK: what run.py looks for in the flame graph.

const Pyroscope = require('@pyroscope/nodejs');

function hotPrimes(limit) {
  let count = 0;
  for (let n = 2; n < limit; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) {
      if (n % d === 0) {
        prime = false;
        break;
      }
    }
    if (prime) count++;
  }
  return count;
}

async function main() {
  const [address, application, seconds] = process.argv.slice(2);
  Pyroscope.init({ serverAddress: address, appName: application, tags: { proof: 'sdk' }, wall: { collectCpuTime: true } });
  Pyroscope.start();
  const end = Date.now() + Number(seconds) * 1000;
  while (Date.now() < end) {
    hotPrimes(200_000);
    // Uploads are sent between turns.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Pyroscope.stop();
}

main();
