//! A session inside of a tunnel of another: a channel of an SSH session that leads to a target. It is
//! its agent's as much as the other, and has its own place, record, rules, masks and credential.
//!
//! Does not belong here: where tunnels lead (`crate::tunnels`), and carrying bytes (`ssh`).

use std::rc::Rc;

use chaperone_audit::AuditError;
use chaperone_model::{Inside, OriginalAddr, Seq};
use chaperone_wire::postgres::Refusal;

use super::{New, Session};
use crate::{
    config::Target,
    places::{Full, Place},
    serve::contained,
    socket::{Route, Socket},
    upstream::Held,
};

/// The tunnel that a session is in.
#[derive(Debug)]
pub(crate) struct Tunnel {
    outer: Seq,
    route: Route,
    /// Whether operations say that the target lies there. Elsewhere what answers at the far end may be
    /// anybody who has taken the target's address there.
    believed: bool,
}

/// Why there is no session in a tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSession {
    #[error("chaperone takes no more sessions{}", match .0 { Full::All => "", Full::Agent => " of this agent" })]
    Full(Full),
    #[error("chaperone could not record the session in this tunnel: {0}")]
    Unrecorded(#[from] AuditError),
}

impl Tunnel {
    pub(super) fn inside(&self) -> Inside {
        Inside { outer: self.outer, asked: self.asked() }
    }

    pub(super) fn outer(&self) -> Seq {
        self.outer
    }

    /// As the agent's client named the place.
    fn asked(&self) -> String {
        let Route { host, port, .. } = &self.route;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The host that the agent's client named.
    pub(crate) fn host(&self) -> &str {
        &self.route.host
    }

    /// See the field.
    pub(crate) fn is_believed(&self) -> bool {
        self.believed
    }
}

/// A session that was opened inside another, before it is served.
pub(crate) struct Opened {
    session: Session,
    place: Place,
}

impl Opened {
    pub(crate) fn id(&self) -> Seq {
        self.session.id
    }

    /// Serves it, beside the other.
    pub(crate) fn serve(self, client: Socket) {
        let Self { session, place } = self;
        let shared = session.shared.clone();
        let served = async move {
            session.take(client).await;
            drop(place);
        };
        tokio::task::spawn_local(contained(shared, served));
    }
}

impl Session {
    /// Opens a session with another target in a tunnel of this one.
    pub(crate) fn open_inside(
        &self,
        target: usize,
        original: OriginalAddr,
        route: Route,
    ) -> Result<Opened, NoSession> {
        let place = self.shared.places.take(self.note.agent);
        let mut place = place.map_err(NoSession::Full)?;
        if !place.give(&self.identity.agent) {
            return Err(NoSession::Full(Full::Agent));
        }
        let believed = !self.shared.config.targets[target].through.is_empty();
        let new = New {
            shared: self.shared.clone(),
            local: self.local.clone(),
            settled: Rc::clone(&self.settled),
            from: self.from,
            note: self.note,
            target,
            original,
            tunnel: Some(Tunnel { outer: self.id, route, believed }),
        };
        Ok(Opened { session: new.open()?, place })
    }

    /// The way to its server, where it is in a tunnel.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.tunnel.as_ref().map(|tunnel| &tunnel.route)
    }

    /// Where the agent wanted to go, for people.
    pub(crate) fn server(&self) -> String {
        self.tunnel.as_ref().map_or_else(|| self.original.to_string(), Tunnel::asked)
    }

    /// Why the daemon's credential is not used in a tunnel, where it is not.
    pub(super) fn gives_nothing(&self, target: &Target, held: Option<&Held>) -> Option<Refusal> {
        let tunnel = self.tunnel.as_ref()?;
        if held.is_none() || tunnel.believed || target.tls.mode.verifies() {
            return None;
        }
        Some(Refusal::new(
            "28000",
            format!(
                "chaperone does not use its credential of target {} in a tunnel: its TLS mode {:?} verifies no server, and at the far end another may have this address",
                self.target,
                target.tls.mode.as_str()
            ),
        )
        .hint("Ask operations for mode \"verify-full\", or to list the target as it is seen there (`through`)."))
    }
}
