//! P4 of what carries files: sftp, scp, rsync and git bring the same files and say the same as without
//! the daemon.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::Finished;
use serde_json::Value;

use super::{Ssh, WAYS, Way, call, words, writable};

impl Ssh {
    /// A folder for everybody, which is the same one for both ways one after the other:
    /// what programs say names it.
    pub(super) fn space(&self, name: &str) -> Result<PathBuf> {
        let folder = self.host.folder().join("space");
        if folder.exists() {
            let before = |number| self.host.folder().join(format!("space-{name}-{number}"));
            let free = (0..100).map(before).find(|path| !path.exists());
            fs::rename(&folder, free.context("a name")?)?;
        }
        fs::create_dir(&folder)?;
        writable(&folder)?;
        Ok(folder)
    }

    /// What a program calls to go this way.
    fn shell(&self, way: Way) -> String {
        format!("ssh {} -p 2222", self.options_of(way).join(" "))
    }
}

/// All that lies below a folder: kinds, modes, where links lead, and hashes.
fn listed(folder: &Path) -> Result<String> {
    let script = "cd \"$1\" && find . -printf '%P %y %m %l\\n' | LC_ALL=C sort && \
                  find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";
    let path = folder.display().to_string();
    let output = std::process::Command::new("sh").args(["-c", script, "sh", &path]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn content(bytes: u32) -> Vec<u8> {
    (0..bytes / 4).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

const BATCH: &str = "pwd
lpwd
cd here
put a b
put -p a c
ls -1
ls -l b
get b back
get -p c kept
rename b d
ln d hard
ln -s d soft
ls -1
chmod 640 d
chgrp 7 d
chown 5 d
ls -n d
mkdir sub
put -r tree sub/
get -r sub/tree tree-back
-rmdir sub
-rm nothing
-get nothing
-mkdir sub
copy d e
-reput a d
-reget d back
rm hard
rm soft
mkdir gone
rmdir gone
-ls /nowhere
ls -la sub/tree
version
";

#[test]
fn p1_p4_every_operation_of_sftp_does_the_same() -> Result<()> {
    let ssh = Ssh::start("")?;
    let mut came = Vec::new();
    for way in WAYS {
        let space = ssh.space("sftp")?;
        fs::create_dir(space.join("here"))?;
        fs::write(space.join("a"), content(3_000_000))?;
        fs::create_dir_all(space.join("tree/deep"))?;
        for number in 0..40 {
            fs::write(space.join(format!("tree/deep/{number}")), content(number * 1000))?;
        }
        call("chmod", &["-R", "a+rwX", &space.display().to_string()])?;
        fs::write(space.join("batch"), BATCH)?;
        // Times of files that are made now differ.
        let mut line = ssh.options_of(way);
        line.extend(["-P", "2222", "-q", "-b", "batch"].map(str::to_owned));
        line.push(format!("root@{}:{}", ssh.host.address(), space.display()));
        let mut all = vec!["-C", space.to_str().context("a path")?, "sftp"];
        all.extend(words(&line));
        let done = ssh.run(way, "env", &all, "")?;
        assert_eq!(done.code, Some(0), "{way:?}: {done:?}\n{}", ssh.host.daemon_output());
        came.push((timeless(&done), listed(&space)?));
    }
    assert_eq!(came[0].0, came[1].0);
    assert_eq!(came[0].1, came[1].1);
    let commands = ssh.commands("sftp", 90)?;
    let has = |what: &str, status: &str| {
        commands.iter().any(|one| {
            one["statement"].as_str().is_some_and(|said| said.starts_with(what))
                && one["status"] == status
        })
    };
    for (what, status) in [
        ("open", "ok"),
        ("rename", "ok"),
        ("symlink", "ok"),
        ("hardlink", "ok"),
        ("setstat", "ok"),
        ("mkdir", "ok"),
        ("rmdir", "error"),
        ("remove", "error"),
        ("remove", "ok"),
    ] {
        let all = || commands.iter().map(|one| one["statement"].to_string()).collect::<Vec<_>>();
        assert!(has(what, status), "{what} {status}: {:#?}", all());
    }
    // What was written is known by its hash.
    let sum = chaperone_host_tests::sha256(&ssh.host.folder().join("space/a"))?;
    let mut hashed = 0;
    for one in &commands {
        hashed += usize::from(ssh.host.command(&one["id"])?.to_string().contains(&sum));
    }
    // Two files were put, two were fetched.
    assert!(hashed >= 4, "{hashed}");
    Ok(())
}

/// Without the times of what was made just now.
fn timeless(done: &Finished) -> Vec<String> {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun"];
    let more = ["Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let lines = done.out.lines().chain(done.err.lines());
    lines
        .map(|line| {
            let all: Vec<&str> = line.split_whitespace().collect();
            let at = all.iter().position(|word| months.contains(word) || more.contains(word));
            match at {
                Some(at) if all.len() > at + 3 => [&all[..at], &all[at + 3..]].concat().join(" "),
                _ => all.join(" "),
            }
        })
        .collect()
}

#[test]
fn p4_scp_carries_trees_in_both_protocols() -> Result<()> {
    let ssh = Ssh::start("")?;
    for protocol in ["-s", "-O"] {
        let mut came = Vec::new();
        for way in WAYS {
            let space = ssh.space(&format!("scp{protocol}"))?;
            fs::create_dir_all(space.join("tree/deep/empty"))?;
            fs::write(space.join("tree/large"), content(5_000_000))?;
            fs::write(space.join("tree/empty"), "")?;
            fs::write(space.join("tree/deep/with space ü"), "text\n")?;
            call("chmod", &["-R", "a+rwX", &space.display().to_string()])?;
            let server =
                |path: &str| format!("root@{}:{}/{path}", ssh.host.address(), space.display());
            let here = |path: &str| space.join(path).display().to_string();
            let mut said = Vec::new();
            for (more, from, to) in [
                (&["-rp"][..], here("tree"), server("there")),
                (&["-r"], server("there"), here("back")),
                (&[], server("there/large"), here("one")),
                (&[], here("tree/large"), server("one-there")),
                (&["-l", "80000"], here("tree/large"), server("slowly")),
                (&[], server("nothing"), here("nothing")),
                (&[], here("tree/large"), server("no/folder/there")),
            ] {
                let mut line = ssh.options_of(way);
                line.extend([protocol, "-P", "2222"].map(str::to_owned));
                line.extend(more.iter().map(|&word| word.to_owned()));
                line.extend([from, to]);
                let done = ssh.run(way, "scp", &words(&line), "")?;
                said.push((done.code, done.out, done.err));
            }
            assert_eq!(said[0].0, Some(0), "{way:?} {protocol}: {said:?}");
            came.push((said, listed(&space)?));
        }
        assert_eq!(came[0].0, came[1].0, "{protocol}");
        assert_eq!(came[0].1, came[1].1, "{protocol}");
    }
    let sum = chaperone_host_tests::sha256(&ssh.host.folder().join("space/tree/large"))?;
    for kind in ["sftp", "copy"] {
        let commands = ssh.commands(kind, 5)?;
        let (mut hashed, mut seen) = (0, Vec::new());
        for one in &commands {
            let whole: Value = ssh.host.command(&one["id"])?;
            hashed += usize::from(whole.to_string().contains(&sum));
            seen.push(format!("{} {}", one["statement"], whole["parts"][0]["response"]));
        }
        assert!(hashed >= 4, "{kind}: {hashed} of {seen:#?}");
    }
    Ok(())
}

#[test]
fn p4_rsync_carries_a_tree_of_ten_thousand_files() -> Result<()> {
    let ssh = Ssh::start("")?;
    let source = ssh.host.folder().join("source");
    for folder in 0..100 {
        let folder = source.join(format!("{folder}"));
        fs::create_dir_all(&folder)?;
        for number in 0..100 {
            fs::write(folder.join(format!("{number}")), content(number * 40))?;
        }
    }
    let mut came = Vec::new();
    for way in WAYS {
        let space = ssh.space("rsync")?;
        let place = format!("root@{}:{}/there", ssh.host.address(), space.display());
        let from = format!("{}/", source.display());
        let back = format!("{}/back", space.display());
        let shell = ssh.shell(way);
        for (from, to) in [(&from, &place), (&format!("{place}/"), &back), (&from, &place)] {
            let done = ssh.run(
                way,
                "rsync",
                &["-a", "--no-owner", "--no-group", "-e", &shell, from, to],
                "",
            )?;
            assert_eq!(done.code, Some(0), "{way:?}: {done:?}\n{}", ssh.host.daemon_output());
        }
        came.push(listed(&space)?);
    }
    assert!(came[0] == came[1], "the trees differ");
    assert!(came[0].lines().count() > 40_000);
    let commands = ssh.commands("exec", 3)?;
    assert!(commands.iter().all(|one| one["status"] == "ok"), "{commands:?}");
    assert!(commands[0]["bytes_in"].as_u64() > Some(10_000_000), "{}", commands[0]);
    Ok(())
}

#[test]
fn p4_git_clones_and_pushes() -> Result<()> {
    let ssh = Ssh::start("")?;
    let mut came = Vec::new();
    for way in WAYS {
        let space = ssh.space("git")?;
        let script = "set -e; export HOME=\"$1\" GIT_CONFIG_NOSYSTEM=1 GIT_SSH_COMMAND=\"$3\"
cd \"$1\"
git config --global user.name cleaner; git config --global user.email cleaner@example.com
git config --global init.defaultBranch main
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
git clone -q \"$2\" one
cd one
for n in $(seq 300); do seq $n $((n * 7)) > f$n; done
git add .; git commit -q -m first; git push -q origin HEAD:main
cd ..
git clone -q \"$2\" two
cd two
git rev-parse HEAD
git fsck --full 2>/dev/null
echo changed > f1; git commit -q -a -m second; git push -q origin HEAD:main
git push origin HEAD:refs/heads/other 2>&1 | grep -o 'HEAD -> other'
git ls-remote origin
cd ../one; git fetch -q; git rev-parse origin/other";
        let bare = ssh.host.folder().join(format!("bare-{way:?}"));
        call("git", &["init", "-q", "--bare", "-b", "main", &bare.display().to_string()])?;
        let place = format!("ssh://root@{}:2222{}", ssh.host.address(), bare.display());
        let shell = format!("ssh {}", ssh.options_of(way).join(" "));
        let space = space.display().to_string();
        let done = ssh.run(way, "bash", &["-c", script, "bash", &space, &place, &shell], "")?;
        assert_eq!(done.code, Some(0), "{way:?}: {done:?}\n{}", ssh.host.daemon_output());
        came.push(done.out);
    }
    assert_eq!(came[0], came[1]);
    let commands = ssh.commands("exec", 5)?;
    let told = |what: &str| {
        commands.iter().any(|one| {
            one["statement"].as_str().is_some_and(|said| said.starts_with(what))
                && one["status"] == "ok"
        })
    };
    assert!(told("git-upload-pack '") && told("git-receive-pack '"), "{commands:?}");
    Ok(())
}
