//! `chaperone log replay`: a session as it went, in the terminal or as one file for a browser.
//!
//! What agents and servers wrote is shown, and obeyed by nothing: neither a terminal nor a browser.
//! Does not belong here: what is recorded, and sessions of protocols that are no statements.

mod html;
mod moment;
mod terminal;

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use chaperone_audit::{Filter, Reader, SessionRow};
use chaperone_model::Seq;
use chaperone_sql::readers::Readers;
use clap::Args;
use tokio::{runtime::Runtime, task::LocalSet};

use crate::{export::Items, reader as sql_reader};
use moment::{Moment, What};

/// Commands that are read at a time.
const BATCH: usize = 64;
/// Events of a session that are shown.
const EVENTS: u32 = 10_000;
/// A pause lasts no longer, however long it was.
const PAUSE: Duration = Duration::from_secs(3);
/// A text of one line that is longer is laid out.
const LINE: usize = 72;

/// The words of `log replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The session's id, as `log sessions` shows it
    session: u64,
    /// So many times as fast as it was; pauses last three seconds at most
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Show all of it at once, as where the output is no terminal
    #[arg(long)]
    no_wait: bool,
    /// Write it into one file for a browser, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if speed.is_finite() && speed > 0.0 { Ok(speed) } else { Err("a speed is more than 0".into()) }
}

/// Where a session is shown.
trait Stage {
    fn begin(&mut self, session: &SessionRow) -> io::Result<()>;
    fn moment(&mut self, moment: &Moment) -> io::Result<()>;
    fn end(&mut self, session: &SessionRow) -> io::Result<()>;
}

pub(crate) fn run(reader: &Reader, args: &ReplayArgs) -> Result<bool> {
    let Some(session) = reader.session(Seq(args.session))? else {
        writeln!(io::stderr(), "chaperone: there is no session {}", args.session)?;
        return Ok(false);
    };
    let mut player = Player::new(reader)?;
    if let Some(path) = &args.html {
        let writing = || format!("writing {}", path.display());
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut page = html::Page::new(BufWriter::new(file.with_context(writing)?));
        player.play(&session, &mut page, |_| ()).with_context(writing)?;
        page.into_inner().into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        return Ok(true);
    }
    let out = io::stdout();
    let wait = !args.no_wait && out.is_terminal();
    let mut screen = terminal::Screen::new(out.lock());
    let mut at = 0;
    player.play(&session, &mut screen, |moment| {
        let passed = Duration::from_micros(u64::try_from(moment.offset_us - at).unwrap_or(0));
        at = moment.offset_us.max(at);
        if wait {
            thread::sleep(
                Duration::try_from_secs_f64(passed.as_secs_f64() / args.speed)
                    .unwrap_or(PAUSE)
                    .min(PAUSE),
            );
        }
    })?;
    Ok(true)
}

/// Goes through a session, a bounded part at a time.
struct Player<'a> {
    reader: &'a Reader,
    readers: Readers,
    runtime: Runtime,
    local: LocalSet,
}

impl<'a> Player<'a> {
    fn new(reader: &'a Reader) -> Result<Self> {
        Ok(Self {
            reader,
            readers: Readers::new(sql_reader::options()),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            local: LocalSet::new(),
        })
    }

    fn play(
        &mut self,
        session: &SessionRow,
        stage: &mut impl Stage,
        mut before: impl FnMut(&Moment),
    ) -> Result<()> {
        let id = Seq(session.id);
        let filter = Filter { session: Some(id), ..Filter::default() };
        let opened = moment::micros(&session.opened);
        let events = self.reader.events_of(id, EVENTS)?.into_iter();
        let mut events = events.map(|event| Moment::event(&event, opened)).peekable();
        let mut items = Items::new(self.reader)?;
        let last = self.reader.last_outcome_of(id)?;
        let mut cursor = id;
        stage.begin(session)?;
        let mut show = |moment: &Moment| -> Result<()> {
            before(moment);
            Ok(stage.moment(moment)?)
        };
        while cursor < last {
            let (found, next) = self.reader.finished(cursor, last, &filter, BATCH)?;
            for finished in found {
                let mut moment = Moment::command(&items.item(finished)?, opened);
                self.lay_out(&mut moment);
                while let Some(event) = events.next_if(|event| event.offset_us < moment.offset_us) {
                    show(&event)?;
                }
                show(&moment)?;
            }
            cursor = next;
        }
        events.try_for_each(|event| show(&event))?;
        let pending = Filter { status: Some("pending".into()), limit: Some(EVENTS), ..filter };
        for row in self.reader.commands(&pending)? {
            show(&Moment::pending(&row, opened))?;
        }
        Ok(stage.end(session)?)
    }

    /// The text stays beside it: it is what was sent.
    fn lay_out(&self, moment: &mut Moment) {
        if let What::Command(command) = &mut moment.what
            && let Some(text) = &command.statement
            && text.len() > LINE
            && !text.contains('\n')
        {
            let laid_out = self.local.block_on(&self.runtime, self.readers.lay_out(text));
            command.laid_out = laid_out.filter(|laid_out| laid_out != text);
        }
    }
}
