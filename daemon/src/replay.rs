//! `chaperone log replay`: a session as it went, on the terminal or as one HTML file.
//!
//! Does not belong here: what a terminal over SSH showed (`terminal`).

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use chaperone_audit::{Reader, SessionRow};
use chaperone_model::Seq;
use chaperone_sql::readers::Readers;
use clap::Args;

use crate::{
    reader,
    terminal::{self, Recording},
};

mod html;
mod shown;
mod step;

use step::{Step, offset};

/// Commands that are looked up at a time.
const PAGE: u32 = 256;
/// A text that an agent laid out itself stays as it is; shorter ones need no layout.
const LINE: usize = 72;

/// The words of `log replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The session's id, or that of a command with a terminal
    session: u64,
    /// Write one HTML file, which needs nothing beside itself, instead
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// So many times as fast as it went
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Wait at most so long between two commands
    #[arg(long, value_name = "SPAN", default_value = "5s", value_parser = span)]
    idle: Duration,
    /// Do not wait at all [default: where the output is no terminal]
    #[arg(long)]
    no_wait: bool,
}

/// Shows it.
pub(crate) fn run(reader: &Reader, args: &ReplayArgs) -> Result<bool> {
    let Some(session) = reader.session(Seq(args.session))? else {
        if let Some(recording) = terminal::read(reader, Seq(args.session))? {
            return play(&recording, args);
        }
        writeln!(io::stderr(), "chaperone: there is no session {}", args.session)?;
        return Ok(false);
    };
    if session.protocol == "ssh" {
        let terminals = terminal::of_session(reader, Seq(session.id))?;
        return match terminals.as_slice() {
            [] => bail!(
                "session {} had no terminal: `chaperone log show` shows its commands one by one",
                session.id
            ),
            [one] => match terminal::read(reader, *one)? {
                Some(recording) => play(&recording, args),
                None => Ok(false),
            },
            several => {
                let ids: Vec<_> = several.iter().map(|id| id.0.to_string()).collect();
                bail!(
                    "session {} had several terminals: replay one of {}",
                    session.id,
                    ids.join(", ")
                )
            }
        };
    }
    if session.protocol != "postgres" {
        bail!("session {} speaks {}, which cannot be replayed", session.id, session.protocol);
    }
    let mut layout = Layout::start()?;
    if let Some(path) = &args.html {
        let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
        let mut page = html::Page::begin(BufWriter::new(file), &session)?;
        steps(reader, &session, &mut |step| page.step(&step, layout.of(&step).as_deref()))?;
        page.end(&session)?;
        return Ok(true);
    }
    let mut out = io::stdout();
    let waits = !args.no_wait && out.is_terminal();
    out.write_all(shown::head(&session).as_bytes())?;
    let mut last = 0;
    let mut pass = |micros: i64| {
        let gap = Duration::from_micros(micros.saturating_sub(last).max(0).unsigned_abs());
        last = micros;
        if waits {
            std::thread::sleep(gap.div_f64(args.speed).min(args.idle));
        }
    };
    steps(reader, &session, &mut |step| {
        pass(step.offset);
        out.write_all(shown::step(&step, layout.of(&step).as_deref()).as_bytes())?;
        Ok(out.flush()?)
    })?;
    pass(session.closed.as_deref().map_or(0, |closed| offset(&session, closed)));
    out.write_all(shown::foot(&session).as_bytes())?;
    Ok(true)
}

/// Plays a terminal on this one.
fn play(recording: &Recording, args: &ReplayArgs) -> Result<bool> {
    if args.html.is_some() {
        bail!("a terminal is no page: `chaperone log export --asciicast` writes it for players");
    }
    let mut out = io::stdout();
    let waits = !args.no_wait && out.is_terminal();
    recording.play(&mut out, |span| {
        if waits {
            std::thread::sleep(span.div_f64(args.speed).min(args.idle));
        }
    })?;
    Ok(true)
}

/// The commands of a session, in the order in which they came.
fn steps(
    reader: &Reader,
    session: &SessionRow,
    each: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<()> {
    let mut after = Seq(0);
    loop {
        let page = reader.intents(Seq(session.id), after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = *last;
        for id in page {
            let parts = reader.parts(id)?;
            let Some(first) = parts.first() else { continue };
            let command = &first.command;
            let asked = command.approval.or((command.verdict == "hold").then_some(command.id));
            let hold = match asked {
                Some(hold) => reader.hold(Seq(hold))?,
                None => None,
            };
            each(Step { offset: offset(session, &command.time), parts, hold })?;
        }
    }
}

/// Lays statements out, in the process that agents' texts are locked into.
struct Layout {
    runtime: tokio::runtime::Runtime,
    readers: Readers,
}

impl Layout {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let readers = {
            let _inside = runtime.enter();
            Readers::new(reader::options())
        };
        Ok(Self { runtime, readers })
    }

    /// A statement laid out, where that helps and can be done.
    fn of(&mut self, step: &Step) -> Option<String> {
        let statement = step.statement()?;
        if statement.len() <= LINE || statement.contains('\n') {
            return None;
        }
        self.runtime.block_on(self.readers.lay_out(statement))
    }
}

fn speed(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 0.001 => Ok(speed),
        _ => bail!("a speed is a number such as 2 or 0.5"),
    }
}

fn span(text: &str) -> Result<Duration> {
    let span: jiff::SignedDuration =
        text.parse().with_context(|| format!("{text:?} is no span such as 2s"))?;
    Ok(span.unsigned_abs())
}
