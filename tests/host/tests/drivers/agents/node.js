// An agent that uses node's pg. Its arguments are the file of the authority that it trusts, and
// how it asks for TLS.
const assert = require('assert');
const fs = require('fs');
const { Readable } = require('stream');
const { pipeline } = require('stream/promises');
const pg = require('pg');
const Cursor = require('pg-cursor');
const copy = require('pg-copy-streams');

const [root, sslnegotiation] = process.argv.slice(2);

async function main() {
  const db = new pg.Client({ ssl: { ca: fs.readFileSync(root) }, sslnegotiation });
  await db.connect();
  await db.query('CREATE TABLE orders (id int, name text)');
  for (let n = 0; n < 5; n++) {
    const text = 'INSERT INTO orders VALUES ($1, $2)';
    await db.query({ name: 'add', text, values: [n, `row ${n}`] });
  }
  for (const n of [1, 2, 3]) {
    const text = 'SELECT name FROM orders WHERE id = $1';
    const found = await db.query({ name: 'find', text, values: [n] });
    assert.strictEqual(found.rows[0].name, `row ${n}`);
  }

  await db.query('BEGIN');
  await db.query("INSERT INTO orders VALUES (100, 'gone')");
  await assert.rejects(db.query('SELECT 1/0'), { code: '22012' });
  await db.query('ROLLBACK');
  const count = await db.query('SELECT count(*) FROM orders');
  assert.strictEqual(count.rows[0].count, '5');

  await pipeline(
    Readable.from(['7\tcopied\n', '8\tcopied\n']),
    db.query(copy.from('COPY orders FROM STDIN')));
  const parts = [];
  const text = 'COPY (SELECT id FROM orders WHERE id > 6 ORDER BY id) TO STDOUT';
  for await (const part of db.query(copy.to(text))) parts.push(part);
  assert.strictEqual(Buffer.concat(parts).toString(), '7\n8\n');

  // This driver reads no results in binary, but sends a buffer so.
  const results = await db.query({
    text: 'SELECT 7::int8, 2.5::float8, $1::bytea, true',
    values: [Buffer.from([0, 255])],
    rowMode: 'array',
  });
  assert.deepStrictEqual(results.rows[0], ['7', 2.5, Buffer.from([0, 255]), true]);

  const cursor = db.query(new Cursor('SELECT id FROM orders ORDER BY id'));
  assert.strictEqual((await cursor.read(3)).length, 3);
  assert.strictEqual((await cursor.read(100)).length, 4);
  await cursor.close();

  const heard = new Promise((resolve) => db.once('notification', (news) => resolve(news.payload)));
  await db.query('LISTEN news');
  await db.query("NOTIFY news, 'hello'");
  assert.strictEqual(await heard, 'hello');

  const query = new pg.Query('SELECT pg_sleep(60)');
  const slept = new Promise((resolve) => query.once('error', resolve).once('end', resolve));
  db.query(query);
  const cancel = setInterval(() => {
    const other = new pg.Client({});
    other.connection.on('end', () => {});
    other.cancel(db, query);
  }, 500);
  assert.strictEqual((await slept).code, '57014');
  clearInterval(cancel);
  const answer = await db.query('SELECT 42');
  assert.strictEqual(answer.rows.length, 1);
  await db.end();
  console.log('done');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
