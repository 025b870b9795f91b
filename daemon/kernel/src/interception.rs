//! The kernel side as one thing: loaded, filled, armed.

use std::{
    collections::hash_map::Entry,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData},
};
use chaperone_abi::{CGROUP_PATH, Offsets, Settings, UNIT_NAME, VERSION, limits};

use crate::{
    Counters, Events, Fault, KernelError, Notes, Others, ProcessTable, Stops,
    links::{self, Held},
    notes::open,
    sys,
    tables::{fits, host, key4, key6, padded, prefixes, replace, replace_trie},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("CHAPERONE_EBPF_OBJECT"));

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0xcafe_4a11);

/// Where and how to intercept.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cgroup v2 folder to attach to.
    pub attach: PathBuf,
    /// A folder on a bpffs; a folder named for the maps' version is made in it.
    pub pins: PathBuf,
    /// The port on 127.0.0.1 and `::1` that connections are sent to.
    pub port: u16,
    /// A number that tells this start from earlier ones; notes carry it.
    pub generation: u32,
    /// Where the kernel keeps what the programs read.
    pub offsets: Offsets,
    /// Kinds of socket that agents may not make: of [`crate::kinds`].
    pub deny_sockets: u32,
    /// Whether some agent's connections to unlisted places are recorded or refused.
    pub egress: bool,
    /// Whether this kernel takes security modules of ours.
    pub modules: bool,
}

/// Whose connections are taken. The second of each pair is the agent's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// User ids, both ends included.
    pub uids: Vec<(RangeInclusive<u32>, u32)>,
    /// Paths of cgroups, from the root of the cgroup v2 tree, that come into scope when they are
    /// made; everything below them counts.
    pub paths: Vec<(String, u32)>,
    /// Names of units whose cgroups do the same, in `slices`.
    pub units: Vec<(String, u32)>,
    /// Ids of cgroups that are there.
    pub cgroups: Vec<(u64, u32)>,
    /// Ids of cgroups in which the service manager makes its units': the root, and its slices.
    pub slices: Vec<u64>,
}

/// An address that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Watch {
    /// This port on any address.
    Any {
        /// In host byte order.
        port: u16,
    },
    /// This port on the addresses of a prefix.
    Net {
        /// Any address of it.
        address: IpAddr,
        /// Its length in bits.
        bits: u8,
        /// In host byte order.
        port: u16,
    },
}

/// Maps that outlive the daemon.
const PINNED: [&str; 20] = [
    "SETTINGS",
    "UIDS",
    "CGROUPS",
    "PATHS",
    "UNITS",
    "SLICES",
    "PROCESSES",
    "EVENTS",
    "TARGETS4",
    "TARGETS6",
    "HOSTS",
    "EGRESS",
    "REACH",
    "UNIX_NAMES",
    "UNIX_FILES",
    "OWNERS",
    "STOPPED",
    "NOTES",
    "FLOWS",
    "COUNTS",
];

/// Where the canary connects to: an address of this host's that nobody uses, at the daemon's port,
/// which nobody else has. Watched as targets are.
pub const CANARY: Ipv4Addr = Ipv4Addr::new(127, 127, 127, 127);
/// The number of its target, and of the agent that it is: no others have them, because targets are
/// counted, and agents' numbers are hashes that avoid it.
pub const CANARY_NUMBER: u32 = u32::MAX - 1;

/// The loaded kernel side. Dropping it changes nothing: the pins keep it in force.
pub struct Interception {
    /// The programs; not where another process loaded them.
    ebpf: Option<Ebpf>,
    maps: std::collections::HashMap<String, Map>,
    held: Vec<Held>,
    plan: Plan,
    folder: PathBuf,
    netns: u64,
}

impl Interception {
    /// Loads the programs and makes or re-opens the pinned maps. Nothing is attached yet.
    ///
    /// # Errors
    /// Any [`KernelError`]; each is a sentence for ops.
    pub fn load(plan: Plan) -> Result<Self, KernelError> {
        let netns = sys::own_netns_cookie()?;
        let folder = prepare_pins(&plan.pins)?;
        let mut loader = EbpfLoader::new();
        for name in PINNED {
            loader.map_pin_path(name, folder.join(name));
        }
        let ebpf = loader.load(OBJECT).map_err(|error| KernelError::refused("the maps", &error))?;
        Ok(Self::new(Some(ebpf), plan, folder, netns))
    }

    /// Takes over what another process has loaded, attached and pinned. This asks for no privileges
    /// but to open the pins.
    ///
    /// # Errors
    /// [`KernelError::NotLoaded`] where that is not whole.
    pub fn adopt(plan: Plan) -> Result<Self, KernelError> {
        let netns = sys::own_netns_cookie()?;
        let folder = versioned(&plan.pins);
        let held = links::hold(&folder, &plan.attach)?;
        Ok(Self { held, ..Self::new(None, plan, folder, netns) })
    }

    fn new(ebpf: Option<Ebpf>, plan: Plan, folder: PathBuf, netns: u64) -> Self {
        Self { ebpf, maps: std::collections::HashMap::new(), held: Vec::new(), plan, folder, netns }
    }

    /// Puts exactly these users and cgroups in scope. A cgroup that is made meanwhile may be one
    /// that this `scope` does not know: `belongs` says whether an id that is in scope and not in it
    /// still ought to be.
    ///
    /// # Errors
    /// Where they are more than fit, or the kernel refuses.
    pub fn set_scope(
        &mut self,
        scope: &Scope,
        belongs: impl Fn(u64) -> bool,
    ) -> Result<(), KernelError> {
        let uids: Vec<_> = scope
            .uids
            .iter()
            .flat_map(|(range, agent)| prefixes(range).into_iter().map(|key| (key, *agent)))
            .collect();
        fits("users in scope", uids.len(), limits::UIDS)?;
        fits("cgroups in scope", scope.cgroups.len(), limits::CGROUPS)?;
        fits("paths of cgroups", scope.paths.len(), limits::NAMES)?;
        fits("names of units", scope.units.len(), limits::NAMES)?;
        fits("slices", scope.slices.len(), limits::SLICES)?;
        replace_trie(&mut self.trie("UIDS")?, &uids, Others::Remove)?;
        replace(&mut self.hash("PATHS")?, &padded::<CGROUP_PATH>(&scope.paths)?, |_| false)?;
        replace(&mut self.hash("UNITS")?, &padded::<UNIT_NAME>(&scope.units)?, |_| false)?;
        let slices: Vec<_> = scope.slices.iter().map(|id| (*id, 0)).collect();
        replace(&mut self.hash("SLICES")?, &slices, |_| true)?;
        replace(&mut self.hash("CGROUPS")?, &scope.cgroups, |id| belongs(*id))
    }

    /// Watches these addresses. The number is an index into the daemon's list of targets. Of others
    /// that are watched already, `others` says what comes of them.
    ///
    /// # Errors
    /// Where they are more than fit, or the kernel refuses.
    pub fn set_targets(
        &mut self,
        watched: &[(Watch, u32)],
        others: Others,
    ) -> Result<(), KernelError> {
        let (mut v4, mut v6, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
        let canary = Watch::Net { address: CANARY.into(), bits: 32, port: self.plan.port };
        for (watch, target) in watched.iter().chain([&(canary, CANARY_NUMBER)]) {
            match *watch {
                Watch::Any { port } => {
                    v4.push((key4(Ipv4Addr::UNSPECIFIED, 0, port), *target));
                    v6.push((key6(Ipv6Addr::UNSPECIFIED, 0, port), *target));
                }
                Watch::Net { address: IpAddr::V4(a), bits, port } => {
                    v4.push((key4(a, bits, port), *target));
                    hosts.push((host(a.to_ipv6_mapped(), 96 + bits), *target));
                }
                Watch::Net { address: IpAddr::V6(a), bits, port } => {
                    v6.push((key6(a, bits, port), *target));
                    hosts.push((host(a, bits), *target));
                }
            }
        }
        fits("watched IPv4 addresses", v4.len(), limits::TARGETS)?;
        fits("watched IPv6 addresses", v6.len(), limits::TARGETS)?;
        replace_trie(&mut self.trie("TARGETS4")?, &v4, others)?;
        replace_trie(&mut self.trie("TARGETS6")?, &v6, others)?;
        replace_trie(&mut self.trie("HOSTS")?, &hosts, others)
    }

    /// Writes the settings and attaches what follows processes and cgroups.
    ///
    /// # Errors
    /// Any [`KernelError`].
    pub fn observe(&mut self) -> Result<(), KernelError> {
        let settings = Settings {
            netns: self.netns,
            offsets: self.plan.offsets,
            port: self.plan.port.into(),
            generation: self.plan.generation,
            deny_sockets: self.plan.deny_sockets,
            egress: self.plan.egress.into(),
        };
        let map = self.map("SETTINGS")?;
        let mut map: Array<_, SettingsPod> =
            Array::try_from(map).map_err(|error| KernelError::refused("map SETTINGS", &error))?;
        map.set(0, SettingsPod(settings), 0)
            .map_err(|error| KernelError::refused("writing map SETTINGS", &error))?;
        match &mut self.ebpf {
            Some(ebpf) => links::observe(ebpf, &self.folder),
            None => Ok(()),
        }
    }

    /// Attaches what takes connections, or swaps the programs of an earlier start in place. Where
    /// it fails, nothing is attached that was not before.
    ///
    /// # Errors
    /// Any [`KernelError`].
    pub fn arm(&mut self) -> Result<(), KernelError> {
        if let Some(ebpf) = &mut self.ebpf {
            links::attach(ebpf, &self.plan.attach, &self.folder, self.plan.modules)?;
            self.held = links::hold(&self.folder, &self.plan.attach)?;
        }
        // Those of another version would take the same connections once more.
        remove_other_versions(&self.plan.pins, &self.folder);
        // Connections that an earlier daemon left in a queue of its own are gone with it.
        self.notes()?.forget_gone(self.plan.generation, self.plan.port)
    }

    /// Takes out what [`Interception::observe`] attached, where an earlier start had not.
    pub fn give_up(&self) {
        links::give_up(&self.folder);
    }

    /// Looks whether all is attached as it was. What lost its pin is pinned anew.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn look(&mut self) -> Result<Vec<(&'static str, Fault)>, KernelError> {
        links::look(&self.folder, &mut self.held)
    }

    /// Attaches what takes connections anew, where this process has the programs; answers whether it
    /// has.
    ///
    /// # Errors
    /// Any [`KernelError`].
    pub fn mend(&mut self) -> Result<bool, KernelError> {
        let Some(ebpf) = &mut self.ebpf else { return Ok(false) };
        fs::create_dir_all(&self.folder).map_err(|source| KernelError::File {
            doing: "making",
            path: self.folder.clone(),
            source,
        })?;
        links::attach(ebpf, &self.plan.attach, &self.folder, false)?;
        self.held = links::hold(&self.folder, &self.plan.attach)?;
        Ok(true)
    }

    /// A handle for taking notes.
    ///
    /// # Errors
    /// Where the pinned map cannot be opened.
    pub fn notes(&self) -> Result<Notes, KernelError> {
        Notes::open(&self.folder, self.netns)
    }

    /// A handle for reading what happened to processes.
    ///
    /// # Errors
    /// Where the pinned map cannot be opened.
    pub fn events(&self) -> Result<Events, KernelError> {
        Events::open(&self.folder)
    }

    /// A handle for reading what was stopped.
    ///
    /// # Errors
    /// Where the pinned map cannot be opened.
    pub fn stops(&self) -> Result<Stops, KernelError> {
        Stops::open(&self.folder)
    }

    /// A handle for the table of processes.
    ///
    /// # Errors
    /// Where the pinned map cannot be opened.
    pub fn processes(&self) -> Result<ProcessTable, KernelError> {
        ProcessTable::open(&self.folder)
    }

    /// A handle for reading the counters.
    ///
    /// # Errors
    /// Where the pinned map cannot be opened.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        Counters::open(&self.folder)
    }

    pub(crate) fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map, KernelError> {
        match self.maps.entry(name.to_owned()) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(place) => {
                let map = Map::from_map_data(open(&self.folder, name)?)
                    .map_err(|error| KernelError::refused(format!("map {name}"), &error))?;
                Ok(place.insert(map))
            }
        }
    }

    pub(crate) fn hash<K: Pod>(
        &mut self,
        name: &str,
    ) -> Result<HashMap<&mut MapData, K, u32>, KernelError> {
        HashMap::try_from(self.map(name)?)
            .map_err(|error| KernelError::refused(format!("map {name}"), &error))
    }

    pub(crate) fn trie<K: Pod>(
        &mut self,
        name: &str,
    ) -> Result<LpmTrie<&mut MapData, K, u32>, KernelError> {
        LpmTrie::try_from(self.map(name)?)
            .map_err(|error| KernelError::refused(format!("map {name}"), &error))
    }
}

/// Whether anything is pinned, of this version or another.
pub fn is_attached(pins: &Path) -> bool {
    !versions(pins).is_empty()
}

/// Removes the pins of all versions, and with them the programs: from here on nothing is intercepted.
///
/// # Errors
/// Where a pin cannot be removed.
pub fn detach(pins: &Path) -> Result<(), KernelError> {
    for folder in versions(pins) {
        let failed = |doing, path: PathBuf| {
            move |source| KernelError::File { doing, path: path.clone(), source }
        };
        for entry in fs::read_dir(&folder).map_err(failed("reading", folder.clone()))? {
            let pin = entry.map_err(failed("reading", folder.clone()))?.path();
            fs::remove_file(&pin).map_err(failed("removing", pin.clone()))?;
        }
        fs::remove_dir(&folder).map_err(failed("removing", folder.clone()))?;
    }
    // It may hold what is not ours.
    let _ = fs::remove_dir(pins);
    Ok(())
}

/// The folders of all versions.
fn versions(pins: &Path) -> Vec<PathBuf> {
    let is_version =
        |name: &str| name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    let entries = fs::read_dir(pins).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_version));
    ours.map(|entry| entry.path()).collect()
}

fn versioned(pins: &Path) -> PathBuf {
    pins.join(format!("v{VERSION}"))
}

fn prepare_pins(pins: &Path) -> Result<PathBuf, KernelError> {
    let parent = pins.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let kind = nix::sys::statfs::statfs(parent)
        .map_err(|errno| KernelError::System { call: "statfs", source: errno.into() })?;
    if kind.filesystem_type() != BPF_FS_MAGIC {
        return Err(KernelError::NotBpffs {
            path: pins.into(),
            mount: pins.parent().unwrap_or(pins).into(),
        });
    }
    let folder = versioned(pins);
    fs::create_dir_all(&folder).map_err(|source| KernelError::File {
        doing: "making",
        path: folder.clone(),
        source,
    })?;
    Ok(folder)
}

fn remove_other_versions(pins: &Path, own: &Path) {
    for folder in versions(pins).into_iter().filter(|folder| folder != own) {
        for pin in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let _ = fs::remove_file(pin.path());
        }
        let _ = fs::remove_dir(folder);
    }
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct SettingsPod(Settings);

// SAFETY: a plain structure of integers without padding (its size is asserted in the ABI crate), so
// that any bytes are a value.
unsafe impl Pod for SettingsPod {}
