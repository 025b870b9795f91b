//! A client of its own for many connections: it opens so many and holds them, or opens so many a
//! second. pgbench does neither.
//!
//! Belongs here: the little of PostgreSQL's protocol (version 3) that a session without a password
//! needs, and times. Not what they are compared with.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::{host::DATABASE, median};

/// Threads that open connections at a rate.
const THREADS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(30);

/// What is opened.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(long)]
    address: SocketAddr,
    /// So many, which are held until the input ends
    #[arg(long, conflicts_with = "rate")]
    hold: Option<u32>,
    /// So many a second
    #[arg(long, requires = "seconds")]
    rate: Option<u32>,
    #[arg(long)]
    seconds: Option<u32>,
}

/// Microseconds from the connection, or from when it was due, to the answer of its first statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    pub(super) median: f64,
    /// 99 of 100 were quicker.
    pub(super) high: f64,
}

impl Times {
    fn of(mut all: Vec<f64>) -> Result<Self> {
        ensure!(!all.is_empty(), "nothing was opened");
        all.sort_by(f64::total_cmp);
        let high = all[(all.len() - 1) * 99 / 100];
        Ok(Self { median: median(&all), high })
    }

    /// As [`run`] prints them.
    pub(super) fn read(line: &str) -> Result<Self> {
        let mut numbers = line.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(median)), Some(Ok(high))) => Ok(Self { median, high }),
            _ => bail!("the crowd says {line:?}"),
        }
    }
}

/// Opens them and prints the times.
pub(crate) fn run(options: &Options) -> Result<()> {
    let address = options.address;
    let Some(rate) = options.rate else {
        let (mut held, mut times) = (Vec::new(), Vec::new());
        for _ in 0..options.hold.unwrap_or(1) {
            let start = Instant::now();
            held.push(open(address)?);
            times.push(micros(start));
        }
        print(Times::of(times)?)?;
        io::stdin().read_to_end(&mut Vec::new())?;
        // Those that were closed by the other side were not held.
        for stream in &mut held {
            ask(stream)?;
            stream.write_all(&[b'X', 0, 0, 0, 4])?;
        }
        return Ok(());
    };
    let count = rate * options.seconds.unwrap_or(1);
    let start = Instant::now();
    let one = |thread: u32| -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for number in (thread..count).step_by(THREADS as usize) {
            let due = start + Duration::from_secs(1) * number / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut stream = open(address)?;
            times.push(micros(due));
            stream.write_all(&[b'X', 0, 0, 0, 4])?;
        }
        Ok(times)
    };
    let times = thread::scope(|scope| -> Result<Vec<f64>> {
        let threads: Vec<_> = (0..THREADS).map(|at| scope.spawn(move || one(at))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().ok().context("a thread panicked")??);
        }
        Ok(all)
    })?;
    print(Times::of(times)?)
}

fn print(times: Times) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{} {}", times.median, times.high)?;
    Ok(out.flush()?)
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// A session that has answered once.
fn open(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).context("no connection")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // `StartupMessage`: version 3.0, then names and values.
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for word in ["user", DATABASE, "database", DATABASE, ""] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    let mut message = u32::try_from(body.len() + 4)?.to_be_bytes().to_vec();
    message.extend(body);
    stream.write_all(&message)?;
    ready(&mut stream)?;
    ask(&mut stream)?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"Q\0\0\0\x0dselect 1\0")?;
    ready(stream)
}

/// Reads up to `ReadyForQuery`.
fn ready(stream: &mut TcpStream) -> Result<()> {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).context("it was closed")?;
        let [tag, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        let mut body = vec![0; length.checked_sub(4).context("no length")?];
        stream.read_exact(&mut body)?;
        match tag {
            b'Z' => return Ok(()),
            b'E' => bail!("it says {}", String::from_utf8_lossy(&body).replace('\0', " ")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_printed() {
        let times = Times::of((1..=200).rev().map(f64::from).collect()).expect("times");
        assert_eq!(times, Times { median: 100.5, high: 198.0 });
        assert_eq!(Times::read("100.5 198\n").expect("times"), times);
        assert!(Times::read("no connection").is_err());
    }
}
