//! What it costs to know what a statement is: known by its text, by a text that differs in literals,
//! read by a process that can be lost, and read here for comparison.
//!
//! `cargo bench -p chaperone-sql`. The goals, as medians: 3 µs for a known text, 150 µs for a
//! new one.

use std::{
    cell::Cell,
    env,
    hint::black_box,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use chaperone_sql::{
    read,
    readers::{Options, Readers},
    sandbox,
};
use divan::Bencher;
use tokio::runtime::{Builder, Runtime};

const WORKER: &str = "sql-worker";

fn main() -> ExitCode {
    // A worker is this program again.
    if env::args().nth(1).is_some_and(|argument| argument == WORKER) {
        return sandbox::worker();
    }
    divan::main();
    what_templates_bring();
    ExitCode::SUCCESS
}

/// A name for it, and the text that a number makes.
type Statement = (&'static str, fn(u64) -> String);

/// Statements as applications send them; a number makes each another text.
const STATEMENTS: &[Statement] = &[
    ("short", |i| format!("SELECT name FROM users WHERE id = {}", i % 1_000_000_000)),
    ("usual", |i| {
        format!(
            "SELECT o.id, o.placed_at, o.total, c.name, c.email FROM orders o JOIN customers c ON \
             c.id = o.customer_id WHERE o.status = 'open' AND o.region = 'r{i}' AND o.total > {} \
             ORDER BY o.placed_at DESC LIMIT 50 OFFSET {}",
            i % 1000,
            i % 10_000,
        )
    }),
    ("long", |i| {
        let rows: Vec<_> = (0..50)
            .map(|row| {
                format!("({row}, 'name {i}', 'somebody{i}@example.com', {}, now())", i % 999)
            })
            .collect();
        format!("INSERT INTO customers (id, name, email, age, at) VALUES {}", rows.join(", "))
    }),
];

/// The same in a form that no template covers: a name differs.
fn with_another_name(statement: &str, i: u64) -> String {
    format!("{statement} /* {i} */")
}

fn names() -> impl Iterator<Item = &'static str> {
    STATEMENTS.iter().map(|(name, _)| *name)
}

fn text(name: &str, i: u64) -> String {
    let (_, statement) = STATEMENTS.iter().find(|(other, _)| *other == name).expect("a statement");
    statement(i)
}

struct Bench {
    runtime: Runtime,
    readers: Rc<Readers>,
    next: Cell<u64>,
}

impl Bench {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let readers = runtime.block_on(async {
            let program = env::current_exe().expect("this program");
            let options = Options::new(program, WORKER.into());
            Rc::new(Readers::new(Options { deadline: Duration::from_secs(20), ..options }))
        });
        let bench = Self { runtime, readers, next: Cell::new(0) };
        // Workers are there, and warm.
        for i in 0..50 {
            bench.read(&format!("SELECT a{i} FROM warm"));
        }
        bench
    }

    fn read(&self, text: &str) {
        black_box(self.runtime.block_on(self.readers.read(text, "bench")));
    }

    fn next(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
}

/// It was read before.
#[divan::bench(args = names(), sample_size = 1000)]
fn known_text(bencher: Bencher, name: &str) {
    let bench = Bench::new();
    let text = text(name, 1);
    bench.read(&text);
    bencher.bench_local(|| black_box(bench.readers.known(black_box(&text))).expect("it is known"));
}

/// Another that differs in literals was read before.
#[divan::bench(args = names(), sample_size = 100)]
fn new_literals(bencher: Bencher, name: &str) {
    let bench = Bench::new();
    bench.read(&text(name, 0));
    bencher
        .with_inputs(|| text(name, bench.next()))
        .bench_local_values(|text| black_box(bench.readers.known(&text)).expect("it is known"));
}

/// Nothing like it was read before: the whole trip.
#[divan::bench(args = names(), sample_count = 500, sample_size = 1)]
fn new_text(bencher: Bencher, name: &str) {
    let bench = Bench::new();
    bencher
        .with_inputs(|| with_another_name(&text(name, 1), bench.next()))
        .bench_local_values(|text| bench.read(&text));
}

/// What reading alone takes, in this process.
#[divan::bench(args = names(), sample_size = 10)]
fn read_here(bencher: Bencher, name: &str) {
    let text = text(name, 1);
    bencher.bench_local(|| black_box(read::read_with_slots(black_box(&text))));
}

/// A worker that was lost is replaced.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn start_a_worker(bencher: Bencher) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let program = env::current_exe().expect("this program");
    bencher.bench_local(|| {
        runtime.block_on(async {
            let readers = Readers::new(Options::new(program.clone(), WORKER.into()));
            black_box(readers.read("SELECT 1", "bench").await);
        });
    });
}

/// An application's loop of statements that differ in literals: with and without templates.
fn what_templates_bring() {
    const COUNT: u64 = 20_000;
    for name in names() {
        let times = [true, false].map(|templates| {
            let bench = Bench::new();
            let before = Instant::now();
            for i in 0..COUNT {
                let text = text(name, i);
                bench.read(&if templates { text } else { with_another_name(&text, i) });
            }
            (
                before.elapsed() / u32::try_from(COUNT).expect("few"),
                bench.readers.stats().trips.get(),
            )
        });
        println!("{name}: {COUNT} statements that differ in literals, each and trips: {times:.2?}");
    }
}
