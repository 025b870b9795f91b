//! `chaperone mask test`: what masks would do to a statement, and why. Nothing of it is run: the
//! target is asked for its catalog and for a description of the result.

use std::{io::Read as _, net::SocketAddr, rc::Rc, time::Duration};

use anyhow::{Context, Result, bail};
use chaperone_kernel::Watch;
use chaperone_model::{Lineage, OriginalAddr, Outputs, Reading, TargetName};
use chaperone_policy::Asked;
use chaperone_sql::readers::Readers;
use chaperone_wire::postgres::{Field, Named};
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::{sync::Semaphore, task::LocalSet, time::timeout};

use crate::{
    addresses::TargetAddress,
    asking::Asking,
    catalog::{self, Sight, asked_about},
    config::{Config, Target},
    inspect::Destination,
    masks::{Concern, Explained, Guesses, Masks, OfSession, Traced},
    names::Names,
    policy::Who,
    reader, show,
    tls::authority::Authority,
    upstream::{Held, Upstream},
};

/// How long the target may take to answer all that it is asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest text from standard input, in bytes.
const LONGEST: u64 = 8 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum MaskCommand {
    /// Say what masks would do to a statement, and why; exit code 3 where it would not pass at once
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    who: Who,
    /// Which server, where the target's addresses are none or several: host:port
    #[arg(long, value_name = "ADDRESS")]
    server: Option<String>,
    /// The text, of one statement or several; `-` is standard input
    statement: String,
}

/// What would become of a text.
#[derive(Debug, Serialize)]
pub(crate) struct Tested {
    /// `passes`, `held`, `refused`.
    pub(crate) outcome: &'static str,
    /// Why it is held or refused, a sentence each.
    pub(crate) why: Vec<String>,
    /// The masks that are for the session.
    pub(crate) masks: Vec<String>,
    /// Who is asked, where it is held: for each mask.
    pub(crate) approvers: Vec<String>,
    /// Its statements, in order.
    pub(crate) statements: Vec<Statement>,
    /// Views by which masked columns may be come to.
    pub(crate) views: Vec<String>,
    /// What the log does not hold of it.
    pub(crate) withheld: bool,
    /// What the server was not asked, and why.
    pub(crate) unknown: Option<String>,
}

/// One statement.
#[derive(Debug, Serialize)]
pub(crate) struct Statement {
    pub(crate) kind: String,
    /// The columns of its result; `null` where it has none, or masks have nothing to do with it.
    pub(crate) columns: Option<Vec<Explained>>,
}

impl Tested {
    fn new(masks: &OfSession, reading: &Reading) -> Self {
        let statement =
            |one: &chaperone_model::Statement| Statement { kind: one.kind.clone(), columns: None };
        Self {
            outcome: "passes",
            why: Vec::new(),
            masks: masks.names(),
            approvers: Vec::new(),
            statements: reading.statements.iter().map(statement).collect(),
            views: Vec::new(),
            withheld: false,
            unknown: None,
        }
    }

    fn refused(mut self, why: impl Into<String>) -> Self {
        self.outcome = "refused";
        self.why = vec![why.into()];
        self
    }
}

/// Does it; answers whether the text would pass.
pub(crate) fn run(config: &Config, what: &MaskCommand, json: bool) -> Result<bool> {
    let MaskCommand::Test(args) = what;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tested = LocalSet::new().block_on(&runtime, async {
        let readers = Rc::new(Readers::new(reader::options()));
        test(config, args, &readers).await
    })?;
    show::masks_tested(&tested, json)?;
    Ok(tested.outcome == "passes")
}

async fn test(config: &Config, args: &TestArgs, readers: &Readers) -> Result<Tested> {
    let who = &args.who;
    let (agent, place) = who.find_sql(config)?;
    let target = &config.targets[place];
    let text = statement(&args.statement)?;
    let reading = Names::default().settle(readers.read(&text, &who.agent).await, Named::default());
    let credential = target.credential(&agent.name).ok().flatten();
    let account = credential.and_then(|index| target.credentials.get(index));
    let user = who.user.as_deref().or(account.map(|account| account.user.as_str()));
    let identity = who.identity();
    let target_name = TargetName(who.target.as_str().into());
    let asked = Asked::of_session(&target_name, &identity, who.database.as_deref(), user);
    let Some(masks) = Masks::without_keys(&config.masks).of_session(&asked) else {
        return Ok(Tested::new(&OfSession::default(), &reading));
    };
    let tested = Tested::new(&masks, &reading);
    if !masks.has_columns() {
        // What is looked for in values depends on no statement.
        return Ok(tested);
    }
    let Some(names) = asked_about(&reading) else {
        return Ok(match masks.without_catalog(&reading) {
            Concern::Unclear(why) => tested.refused(why),
            Concern::None | Concern::Follow(_) => tested,
        });
    };
    let index = credential.with_context(|| {
        format!("target {} has no credential for agent {}", target.name, agent.name)
    })?;
    let own = Authority::open(&config.daemon.authority).ok();
    let own = own.as_ref().map(Authority::public_key);
    let upstream = Upstream::prepare(target, own, None)?;
    let held = upstream.held.get(index).context("the target has no such credential")?;
    if let Some(outer) = target.through.first() {
        bail!(
            "target {} is reached only inside of SSH sessions to target {outer}: chaperone cannot ask it from here",
            target.name
        );
    }
    let server = server(target, args.server.as_deref()).await?;
    let destination = Destination {
        target: place,
        server: OriginalAddr(server),
        route: None,
        agent: agent.name.clone(),
        database: who.database.clone(),
    };
    let deriving = Semaphore::new(1);
    let asking = catalog::ask_once(&deriving, readers, &destination, held, &names);
    let known = timeout(PATIENCE, asking)
        .await
        .map_err(|_| "it did not answer in time".to_owned())
        .flatten()
        .map_err(|why| {
            anyhow::anyhow!("the catalog of target {} could not be asked: {why}", target.name)
        })?;
    let sight = Sight::default();
    let path_is_known = !reading.statements.iter().any(|one| sets_path(&one.kind));
    let resolved = catalog::resolve(&reading, &known, &sight, path_is_known);
    let columns = match masks.concern(&reading, &resolved, &known, &sight, path_is_known) {
        Concern::None => return Ok(tested),
        Concern::Unclear(why) => return Ok(tested.refused(why)),
        Concern::Follow(columns) => columns,
    };
    let lineage = readers.lineage(&text, &columns.schema, &who.agent).await;
    let Some(lineage) = lineage.filter(|found| found.len() == reading.statements.len()) else {
        return Ok(tested.refused("where its columns come from cannot be told"));
    };
    if let Some(name) = runs(&lineage) {
        let why = format!("it depends on what the session has under the name {name}");
        return Ok(tested.refused(why));
    }
    let traced = Traced::new(masks, columns, lineage);
    let one = reading.statements.len() == 1;
    let (described, unknown) = if one {
        described(&deriving, &destination, held, &text).await
    } else {
        (None, Some("the server describes one statement at a time".into()))
    };
    Ok(explained(tested, &traced, described.as_deref(), unknown))
}

fn explained(
    mut tested: Tested,
    traced: &Traced,
    described: Option<&[(String, Field)]>,
    unknown: Option<String>,
) -> Tested {
    for (part, statement) in tested.statements.iter_mut().enumerate() {
        statement.columns = traced.explain(part, described);
    }
    tested.views = traced.views();
    tested.withheld = traced.holds_values();
    tested.unknown = unknown;
    match traced.guesses(|_| false) {
        Guesses::Refused(guess) => {
            tested.outcome = "refused";
            tested.why = vec![guess.sentence()];
        }
        Guesses::Held(held) if !held.is_empty() => {
            tested.outcome = "held";
            tested.why = held.iter().map(|one| one.guess.sentence()).collect();
            for one in &held {
                for (approvers, quorum) in one.terms.panels() {
                    let names: Vec<_> = approvers.iter().map(ToString::to_string).collect();
                    let panel = format!("{}: {quorum} of {}", one.terms.rule, names.join(", "));
                    if !tested.approvers.contains(&panel) {
                        tested.approvers.push(panel);
                    }
                }
            }
        }
        Guesses::Held(_) => {}
    }
    if let Some((most, mask, times)) = traced.equality() {
        let mask = mask.as_deref().unwrap_or("masks");
        if times > most && tested.outcome != "refused" {
            tested.outcome = "refused";
            tested.why = vec![if most == 0 {
                format!("it compares a masked column with a value: mask {mask}")
            } else {
                format!(
                    "it compares a masked column with {times} values, and {most} a minute may be: mask {mask}"
                )
            }];
        } else {
            let counted = format!(
                "it compares a masked column with {}, and {most} a minute may be: mask {mask}",
                if times == 1 { "a value".into() } else { format!("{times} values") },
            );
            tested.why.push(counted);
        }
    }
    tested
}

/// How the server describes the result, or why it does not.
async fn described(
    deriving: &Semaphore,
    place: &Destination,
    held: &Held,
    text: &str,
) -> (Option<Vec<(String, Field)>>, Option<String>) {
    let ask = async {
        let mut asking = Asking::connect(deriving, place, held, "chaperone (mask test)").await?;
        asking.ask("SET statement_timeout = '5s'").await?;
        let found = asking.describe(text).await;
        asking.goodbye().await;
        found
    };
    match timeout(PATIENCE, ask).await {
        Ok(Ok(described)) => (described, None),
        Ok(Err(why)) => (None, Some(format!("the server does not describe it: {why}"))),
        Err(_) => (None, Some("the server did not describe it in time".into())),
    }
}

/// The prepared statement or cursor that a text runs.
fn runs(lineage: &[Lineage]) -> Option<&str> {
    lineage.iter().find_map(|one| match &one.outputs {
        Outputs::Of(name) => Some(name.as_str()),
        _ => None,
    })
}

fn sets_path(kind: &str) -> bool {
    ["SET", "RESET", "DISCARD ALL"].contains(&kind)
}

fn statement(text: &str) -> Result<String> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().take(LONGEST).read_to_string(&mut text).context("standard input")?;
    Ok(text)
}

/// The server that is asked: the target's only one, or the one that was named.
async fn server(target: &Target, named: Option<&str>) -> Result<SocketAddr> {
    let written = match named {
        Some(text) => {
            let named: TargetAddress = text.parse().map_err(|why: String| anyhow::anyhow!(why))?;
            if !target.addresses.iter().any(|one| *one == named || one.contains(&named)) {
                bail!("{text} is no address of target {}", target.name);
            }
            vec![named]
        }
        None => target.addresses.clone(),
    };
    let mut found = Vec::new();
    for address in &written {
        match address {
            TargetAddress::Name(name, port) => {
                let looked = tokio::net::lookup_host((name.as_str(), *port)).await;
                found.extend(looked.with_context(|| format!("{name} cannot be looked up"))?.next());
            }
            TargetAddress::Fixed(Watch::Net { address, bits, port }) => {
                let longest = if address.is_ipv4() { 32 } else { 128 };
                found.extend((*bits == longest).then(|| SocketAddr::new(*address, *port)));
            }
            TargetAddress::Fixed(Watch::Any { .. }) => {}
        }
    }
    match found.as_slice() {
        [one] if written.len() == 1 => Ok(*one),
        _ => bail!(
            "target {} has not one address alone: say which server is to be asked by --server host:port",
            target.name
        ),
    }
}
