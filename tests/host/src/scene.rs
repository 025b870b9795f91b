//! The scene: what a test wants to be different from the ordinary, and setting it.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, bail};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    unistd::geteuid,
};

use crate::{
    Host,
    host::UID,
    place::{Cgroup, Mount},
    postgres::{Postgres, Release},
};

/// What a test wants to be different from the ordinary.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    daemon: String,
    target: String,
    address: Option<String>,
    select: Option<String>,
    agent: String,
    more: String,
    server: String,
    hba: Option<String>,
    without_postgres: bool,
    pub(crate) release: Release,
    small_disk: bool,
    leave_nothing: bool,
    other_agents: Vec<(String, u32)>,
    pub(crate) other_targets: Vec<(String, String)>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) trimmed: Vec<String>,
    pub(crate) hosts: Option<(String, String)>,
    pub(crate) etc: Vec<(String, String)>,
    held: bool,
    pub(crate) loaded_apart: bool,
}

impl Scene {
    /// Lines for the configuration's `[daemon]`.
    #[must_use]
    pub fn daemon(mut self, lines: &str) -> Self {
        self.daemon.push_str(lines);
        self.daemon.push('\n');
        self
    }

    /// Lines for the configuration's `[[target]]`.
    #[must_use]
    pub fn target(mut self, lines: &str) -> Self {
        self.target.push_str(lines);
        self.target.push('\n');
        self
    }

    /// The agent's version, as TOML.
    #[must_use]
    pub fn version(self, toml: &str) -> Self {
        self.agent(&format!("version = {toml}"))
    }

    /// One more agent, known by its user id.
    #[must_use]
    pub fn other_agent(mut self, name: &str, uid: u32) -> Self {
        self.other_agents.push((name.into(), uid));
        self
    }

    /// One more target: the same server by another of its addresses, [`Host::address_of`]. Lines as
    /// for [`Scene::target`].
    #[must_use]
    pub fn other_target(mut self, name: &str, lines: &str) -> Self {
        self.other_targets.push((name.into(), lines.into()));
        self
    }

    /// A variable of the daemon's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The daemon's sockets are held by somebody who outlives it, as by a service manager.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// The programs are loaded by a process of their own, before each start of the daemon.
    #[must_use]
    pub fn loaded_apart(mut self) -> Self {
        self.loaded_apart = true;
        self
    }

    /// The daemon runs without this capability, as setpriv names it.
    #[must_use]
    pub fn without_capability(mut self, name: &str) -> Self {
        self.trimmed.push(name.into());
        self
    }

    /// The daemon finds this name to be the address of this target.
    #[must_use]
    pub fn name_of(mut self, target: &str, name: &str) -> Self {
        self.hosts = Some((target.into(), name.into()));
        self
    }

    /// The daemon finds this file of `/etc`, which is there, to have this content.
    #[must_use]
    pub fn etc(mut self, name: &str, content: &str) -> Self {
        self.etc.push((name.into(), content.into()));
        self
    }

    /// The target's addresses, as TOML, in place of the server's own. `{ip}` is the server's.
    #[must_use]
    pub fn address(mut self, toml: &str) -> Self {
        self.address = Some(toml.into());
        self
    }

    /// The agent is known by its cgroup, not by its user id.
    #[must_use]
    pub fn select_by_cgroup(self) -> Self {
        self.select("{ cgroup = \"/{cgroup}\" }")
    }

    /// How the agent is known, as TOML. `{cgroup}` is the name of the test's cgroup.
    #[must_use]
    pub fn select(mut self, toml: &str) -> Self {
        self.select = Some(toml.into());
        self
    }

    /// Lines for the configuration's `[[agent]]`.
    #[must_use]
    pub fn agent(mut self, lines: &str) -> Self {
        self.agent.push_str(lines);
        self.agent.push('\n');
        self
    }

    /// Lines for the end of the configuration. `{cgroup}` is the name of the test's cgroup.
    #[must_use]
    pub fn more(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }

    /// A rule that allows what is forbidden unless one does: for tests of something else.
    #[must_use]
    pub fn allow_all(self) -> Self {
        self.more("[[rule]]\nname = \"all\"\nwhen = { class = \"forbidden\" }\nthen = \"allow\"")
    }

    /// Lines for the server's configuration.
    #[must_use]
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// The server's `pg_hba.conf`, in place of one that trusts everybody.
    #[must_use]
    pub fn hba(mut self, lines: &str) -> Self {
        self.hba = Some(lines.into());
        self
    }

    /// The log is on a file system of 2 MiB.
    #[must_use]
    pub fn small_disk(mut self) -> Self {
        self.small_disk = true;
        self
    }

    /// Nothing stays for the next scene, not even the server's template: it takes longer.
    #[must_use]
    pub fn leave_nothing(mut self) -> Self {
        self.leave_nothing = true;
        self
    }

    /// No server: the test brings its own.
    #[must_use]
    pub fn without_postgres(mut self) -> Self {
        self.without_postgres = true;
        self
    }

    /// Another server than Debian's.
    #[must_use]
    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// Sets the scene and starts the daemon.
    ///
    /// # Errors
    /// Where any of it cannot be had; the sentence says what.
    pub fn start(&self) -> Result<Host> {
        let mut host = self.prepare()?;
        host.start_daemon()?;
        Ok(host)
    }

    /// Sets the scene without the daemon.
    ///
    /// # Errors
    /// As [`Scene::start`].
    pub fn prepare(&self) -> Result<Host> {
        if !geteuid().is_root() {
            bail!("these tests load BPF programs and make cgroups: run them as root");
        }
        let others = u32::try_from(self.other_targets.len())?;
        let number = NEXT.fetch_add(1 + others, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("chaperone-host-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        // A slice, in which a service manager would make its units' groups.
        let name = format!("chaperonetest{}n{number}.slice", std::process::id());
        let cgroup = Cgroup::make(&name)?;
        let bpffs = Mount::make("bpf", folder.path().join("bpf"), None)?;
        let disk = self
            .small_disk
            .then(|| Mount::make("tmpfs", folder.path().join("log"), Some("size=2m")))
            .transpose()?;
        // An address and a port that no other test of any process uses at the same time.
        let process = std::process::id();
        let [_, _, high, low] = process.to_be_bytes();
        let addresses: Vec<_> = (number..=number + others)
            .map(|number| u8::try_from(number % 250).unwrap_or(0) + 1)
            .map(|octet| Ipv4Addr::new(127, 64 + (high & 0x3f), low, octet))
            .collect();
        let port = 20_000 + u16::try_from((process * 31 + number) % 12_000).unwrap_or(0);
        let hba = self.hba.clone().unwrap_or_else(|| "host all all all trust\n".into());
        let postgres = (!self.without_postgres)
            .then(|| {
                let template = self.leave_nothing.then(|| folder.path().join("template"));
                let (path, server) = (folder.path(), &self.server);
                Postgres::start(path, &addresses, server, &hba, template, self.release)
            })
            .transpose()?;
        let held = if self.held { held(folder.path(), port)? } else { Vec::new() };
        let host = Host {
            daemon: None,
            held,
            postgres,
            _mounts: [Some(bpffs), disk],
            cgroup,
            folder,
            addresses,
            port,
            scene: self.clone(),
        };
        for (name, content) in &self.etc {
            fs::write(host.folder().join(name), content)?;
        }
        let mut configuration = self.configuration(&host, &name);
        if let Some((target, name)) = &self.hosts {
            let address = host.address_of(target);
            fs::write(host.folder().join("hosts"), format!("{address} {name}\n"))?;
            configuration = configuration.replace(&format!("{address}:"), &format!("{name}:"));
        }
        fs::write(host.config(), configuration)?;
        Ok(host)
    }

    fn configuration(&self, host: &Host, cgroup: &str) -> String {
        let folder = host.folder.path().display();
        let by_user = format!("{{ user = {UID} }}");
        let select = self.select.as_ref().unwrap_or(&by_user).replace("{cgroup}", cgroup);
        let address = self.address.clone().unwrap_or_else(|| "[\"{ip}:5432\"]".into());
        // Most scenes count connections, or are over before it would come.
        let canary = if self.daemon.contains("canary") { "" } else { "canary = \"1h\"\n" };
        // Most scenes are of other things than encryption.
        let plain = |lines: &str| {
            let said = lines.lines().any(|line| line.starts_with("tls = "));
            if said { "" } else { "tls = \"disable\"\n" }
        };
        let mut text = format!(
            "[daemon]\nattach = \"{cgroup}\"\nlisten = {port}\npins = \"{folder}/bpf/chaperone\"\n\
             control = \"{folder}/run/control.sock\"\nlog = \"{folder}/log/log.sqlite\"\n\
             authority = \"{folder}/authority\"\nenrolled = \"{folder}/enrolled.toml\"\n{canary}{daemon}\n\
             [[agent]]\nname = \"cleaner\"\nselect = {select}\n{agent}\n\
             [[target]]\nname = \"prod\"\nprotocol = \"postgres\"\naddress = {address}\n{plain}{target}\n{more}",
            agent = self.agent,
            more = self.more.replace("{cgroup}", cgroup),
            cgroup = host.cgroup.path.display(),
            port = host.port,
            daemon = self.daemon,
            target = self.target,
            plain = plain(&self.target),
            address = address.replace("{ip}", &host.address().to_string()),
        );
        for ((name, lines), address) in self.other_targets.iter().zip(&host.addresses[1..]) {
            let _ = writeln!(
                text,
                "[[target]]\nname = \"{name}\"\nprotocol = \"postgres\"\n\
                 address = [\"{address}:5432\"]\n{}{lines}",
                plain(lines),
            );
        }
        for (name, uid) in &self.other_agents {
            let _ = writeln!(text, "[[agent]]\nname = \"{name}\"\nselect = {{ user = {uid} }}");
        }
        text.replace("{folder}", &folder.to_string())
    }
}

/// Listening sockets as the package's units name them, which a daemon may be started with.
fn held(folder: &Path, port: u16) -> Result<Vec<OwnedFd>> {
    fs::create_dir_all(folder.join("run"))?;
    let sockets = [
        OwnedFd::from(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?),
        OwnedFd::from(TcpListener::bind((Ipv6Addr::LOCALHOST, port))?),
        OwnedFd::from(UnixListener::bind(folder.join("run/control.sock"))?),
    ];
    for socket in &sockets {
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(sockets.into())
}

static NEXT: AtomicU32 = AtomicU32::new(0);
