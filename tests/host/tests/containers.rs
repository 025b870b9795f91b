//! P3: which image a container was started from, on the word of the engine's own files, whatever an
//! agent calls itself. The engine is Podman.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use chaperone_host_tests::{Finished, Host, Scene, compile_agent, compile_agent_for_image};
use serde_json::Value;

/// An engine with a store of its own.
struct Podman {
    folder: tempfile::TempDir,
}

/// An image by its two names.
struct Image {
    /// The hash of its configuration.
    id: String,
    /// That of its manifest, by which registries know it.
    manifest: String,
}

impl Podman {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("chaperone-podman-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { folder })
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// For the scene's `[daemon]`.
    fn line(&self) -> String {
        format!("container_stores = [\"{}\"]", self.store().display())
    }

    /// It finds the cgroup v2 tree where it looks for it, on hosts with both versions as well.
    fn run(&self, args: &[&str]) -> Result<Finished> {
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg("mount -t cgroup2 none /sys/fs/cgroup && exec podman \"$@\"")
            .args(["sh", "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=crun"])
            .args(["--events-backend=none", "--root"])
            .arg(self.store())
            .arg("--runroot")
            .arg(self.folder.path().join("run"))
            .args(args)
            .output()
            .context("there is no unshare")?;
        Ok(output.into())
    }

    /// An image with nothing but the agent in C.
    fn image(&self, mark: &str) -> Result<Image> {
        let root = self.folder.path().join(mark);
        fs::create_dir(&root)?;
        let program =
            compile_agent_for_image(&self.folder.path().join(format!("{mark}-agent")), mark)?;
        fs::copy(program, root.join("agent"))?;
        let archive = self.folder.path().join(format!("{mark}.tar"));
        let made =
            Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status()?;
        ensure!(made.success(), "tar failed");
        let (archive, name) = (archive.display().to_string(), format!("localhost/{mark}:1"));
        let id = self
            .run(&["import", "-q", "--change=ENTRYPOINT [\"/agent\"]", &archive, &name])?
            .ok()?;
        let id = id.lines().last().context("no id")?.trim_start_matches("sha256:").to_owned();
        let manifest = self.run(&["image", "inspect", "--format={{.Digest}}", &id])?.ok()?;
        Ok(Image { id: format!("sha256:{id}"), manifest })
    }

    /// Runs the agent in a container, in the host's network; answers the container's id as well.
    fn agent(&self, host: &Host, image: &Image, steps: &[&str]) -> Result<(String, Finished)> {
        let above = host.cgroup().join("engine");
        fs::create_dir_all(&above)?;
        let test = host.cgroup().file_name().and_then(|name| name.to_str()).context("a name")?;
        let ids = tempfile::tempdir_in(self.folder.path())?;
        let id = ids.path().join("id");
        let (parent, id_file) =
            (format!("--cgroup-parent=/{test}/engine"), format!("--cidfile={}", id.display()));
        let (user, address) = (format!("--user={}", host.uid()), host.address().to_string());
        let mut args = vec!["run", "--rm", "--network=host", &parent, &id_file, &user];
        // What needs controllers, or rights that a host in a container does not have.
        args.extend(["--privileged", "--pids-limit=-1", "--ulimit=nofile=1024:1024"]);
        args.extend([
            "--ulimit=nproc=1024:1024",
            "--env=PGUSER=postgres",
            "--env=PGDATABASE=postgres",
        ]);
        args.extend([image.id.trim_start_matches("sha256:"), &address]);
        args.extend(steps);
        let done = self.run(&args)?;
        let id = fs::read_to_string(id).with_context(|| format!("no container: {done:?}"))?;
        Ok((id, done))
    }
}

const ASKS: [&str; 2] = ["connect", "query=SELECT 1"];

fn json(host: &Host, args: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&host.chaperone(args)?.ok()?)?)
}

#[test]
fn p3_an_image_has_to_be_enrolled_and_tells_the_version() -> Result<()> {
    let podman = Podman::new()?;
    let (ours, other) = (podman.image("ours")?, podman.image("other")?);
    let host = Scene::default()
        .daemon(&podman.line())
        .agent("images = \"enrolled\"\nversions = \">=1.4\"")
        .version(&format!(
            "{{ image = {{ \"{}\" = \"1.4.2\", \"{}\" = \"1.5\" }} }}",
            ours.id, other.manifest
        ))
        .start()?;
    let (_, refused) = podman.agent(&host, &ours, &ASKS)?;
    let said = format!("the container's image {} is not enrolled", ours.manifest);
    assert!(refused.err.contains(&said), "{refused:?}");
    assert!(refused.code != Some(0) && host.commands()?.is_empty(), "{refused:?}");

    // By what it was seen with, which is the digest of its manifest.
    assert_eq!(host.chaperone(&["agents", "enroll", "cleaner"])?.ok()?, ours.manifest);
    enrolled(&host, 1)?;
    let (container, done) = podman.agent(&host, &ours, &ASKS)?;
    done.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert_eq!((&row["agent_version"], &row["doubts"]), (&"1.4.2".into(), &Value::Null), "{row}");
    let session = &host.command(&row["id"])?["session"];
    assert_eq!(session["image"], ours.manifest, "{session}");
    assert_eq!(session["container"], container, "{session}");
    assert_eq!(session["executable"], "/agent");
    let shown = host.chaperone(&["log", "show", &row["id"].to_string()])?.ok()?;
    assert!(shown.contains(&ours.manifest), "{shown}");
    let seen = json(&host, &["agents", "--json"])?;
    assert_eq!(seen["images"][0]["image"], ours.manifest, "{seen}");
    assert_eq!(seen["images"][0]["enrolled"], true, "{seen}");
    assert_eq!(seen["runs"][0]["version_source"], "image", "{seen}");

    // Another image, until it is enrolled by its id.
    let (_, refused) = podman.agent(&host, &other, &ASKS)?;
    assert!(refused.err.contains(&other.manifest), "{refused:?}");
    host.chaperone(&["agents", "enroll", "cleaner", &other.id])?.ok()?;
    enrolled(&host, 2)?;
    podman.agent(&host, &other, &ASKS)?.1.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert_eq!(row["agent_version"], "1.5");

    // And no container at all.
    let refused = outside(&host)?;
    assert!(refused.err.contains("it runs in no container"), "{refused:?}");
    assert_eq!(host.commands()?.len(), 2);
    Ok(())
}

/// The agent's account asks, in no container: beside those of the engine, which leaves the group above
/// them to groups.
fn outside(host: &Host) -> Result<Finished> {
    let group = host.cgroup().join("outside");
    fs::create_dir_all(&group)?;
    host.agent_in(&group, host.uid(), "psql", &["-X", "-c", "SELECT 1"])
}

/// Waits until the daemon has read the list so often.
fn enrolled(host: &Host, times: usize) -> Result<()> {
    chaperone_host_tests::wait_until("the list is read", || {
        let events = host.events().unwrap_or_default();
        events.iter().filter(|event| event["kind"] == "enrolled").count() >= times
    })
}

#[test]
fn p3_agents_of_one_account_are_told_apart_by_their_images() -> Result<()> {
    let podman = Podman::new()?;
    let (first, second) = (podman.image("first")?, podman.image("second")?);
    let third = podman.image("third")?;
    let select = |image: &str| format!("{{ user = 64001, images = [\"{image}\"] }}");
    let host = Scene::default()
        .daemon(&podman.line())
        .select(&select(&first.id))
        .more(&format!("[[agent]]\nname = \"other\"\nselect = {}", select(&second.manifest)))
        .start()?;
    for (image, agent) in [(&first, "cleaner"), (&second, "other")] {
        podman.agent(&host, image, &ASKS)?.1.ok()?;
        let row = host.commands()?.pop().context("no command")?;
        assert_eq!(row["agent"], agent, "{row}");
    }
    for refused in [podman.agent(&host, &third, &ASKS)?.1, outside(&host)?] {
        assert!(refused.err.contains("no agent of the configuration"), "{refused:?}");
    }
    Ok(())
}

#[test]
fn p3_a_cgroup_that_an_agent_names_after_a_container_is_none() -> Result<()> {
    let podman = Podman::new()?;
    let image = podman.image("wanted")?;
    let host = Scene::default()
        .daemon(&podman.line())
        .select(&format!("{{ user = 64001, images = [\"{}\"] }}", image.id))
        .start()?;
    // Never started, so that a process of the host's stands for what is in it.
    let id = podman.run(&["create", image.id.trim_start_matches("sha256:")])?.ok()?;
    let program = compile_agent(&host.folder().join("feigns"), "feigns")?;
    let (program, address) = (program.display().to_string(), host.address().to_string());
    let run = |above: &Path| {
        let group = above.join(format!("libpod-{id}.scope"));
        if !group.exists() {
            fs::create_dir(&group)?;
        }
        host.agent_in(&group, host.uid(), &program, &[&address, "connect", "query=SELECT 1"])
    };
    let (engines, agents) = (host.cgroup().join("engines"), host.cgroup().join("agents"));
    for group in [&engines, &agents] {
        fs::create_dir(group)?;
    }
    run(&engines)?.ok()?;
    // Groups below this one are the agent's to make, as below the group of a user's service manager.
    chown(&agents, Some(host.uid()), None)?;
    let refused = run(&agents)?;
    if !refused.err.contains("no agent of the configuration") {
        bail!("{refused:?}");
    }
    // It may move what it likes into groups below this one.
    chown(&agents, Some(0), None)?;
    run(&agents)?.ok()?;
    chown(agents.join("cgroup.procs"), Some(host.uid()), None)?;
    assert!(run(&agents)?.code != Some(0));
    // A store that is the agent's says nothing, once what was read before is forgotten.
    let id = podman.run(&["create", image.id.trim_start_matches("sha256:")])?.ok()?;
    chown(podman.store(), Some(host.uid()), None)?;
    let group = engines.join(format!("libpod-{id}.scope"));
    fs::create_dir(&group)?;
    let refused = host.agent_in(&group, host.uid(), &program, &[&address, "connect"])?;
    assert!(refused.code != Some(0), "{refused:?}");
    Ok(())
}
