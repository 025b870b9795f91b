//! Lines, which programs they run, and how much those can do.

use chaperone_model::{Hides, Rung, ShellReading, Special};
use proptest::prelude::*;

use crate::read;

mod attacks;

/// The programs of a line, and its rung: `r`, `w` or `d`. A name that is not literal is `?`.
fn said(line: &str) -> (String, char) {
    let reading = read(line.as_bytes());
    let names: Vec<&str> = reading
        .commands
        .iter()
        .filter(|command| !command.written.is_empty() || !command.program.is_empty())
        .map(|command| if command.program.is_empty() { "?" } else { command.program.as_str() })
        .collect();
    (names.join(" "), letter(&reading))
}

fn letter(reading: &ShellReading) -> char {
    match reading.rung {
        Rung::Read => 'r',
        Rung::Write => 'w',
        Rung::Destructive => 'd',
        Rung::Forbidden => 'f',
    }
}

fn check(table: &[(&str, &str, char)]) {
    let mut wrong = Vec::new();
    for (line, programs, rung) in table {
        let found = said(line);
        if found != ((*programs).to_owned(), *rung) {
            wrong.push(format!(
                "{line:?}: {found:?}, not {:?}: {}",
                (programs, rung),
                read(line.as_bytes()).reason
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lines_that_only_read_are_told() {
    check(&[
        ("", "", 'r'),
        ("# rm -rf /", "", 'r'),
        ("ls", "ls", 'r'),
        ("ls -la /tmp # rm", "ls", 'r'),
        ("/bin/ls /", "ls", 'r'),
        ("cat a b > /dev/null", "cat", 'r'),
        ("cat < /etc/hosts", "cat", 'r'),
        ("cat a 2>&1 | grep x | wc -l", "cat grep wc", 'r'),
        ("cd /srv && ls; pwd || true", "cd ls pwd true", 'r'),
        ("(cd /srv; ls)", "cd ls", 'r'),
        ("{ ls; pwd; }", "ls pwd", 'r'),
        ("ls & pwd", "ls pwd", 'r'),
        ("! ls", "ls", 'r'),
        ("time ls", "ls", 'r'),
        ("x=1", "", 'r'),
        ("x=$(ls)", "ls", 'r'),
        ("echo \"$(id -u)\" `whoami`", "id whoami echo", 'r'),
        ("for f in a b; do cat \"$f\"; done", "cat", 'r'),
        ("while true; do ls; sleep 1; done", "true ls sleep", 'r'),
        ("if test -f x; then cat x; else ls; fi", "test cat ls", 'r'),
        ("case $x in a) ls;; *) pwd;; esac", "ls pwd", 'r'),
        ("[[ $x == y ]] && ls", "ls", 'r'),
        ("f() { ls; }; f", "ls f", 'r'),
        ("echo '$(rm -rf /)'", "echo", 'r'),
        ("echo rm -rf /", "echo", 'r'),
        ("grep 'a;rm' x", "grep", 'r'),
        ("cat <<'E'\n$(rm)\nE", "cat", 'r'),
        ("cat <<E\n$(ls)\nE", "ls cat", 'r'),
        ("find . -name '*.log' -type f", "find", 'r'),
        ("find . -exec cat {} +", "find cat", 'r'),
        ("find . -exec grep x {} \\;", "find grep", 'r'),
        ("xargs cat", "xargs cat", 'r'),
        ("sudo -u web cat /var/log/x", "sudo cat", 'r'),
        ("sudo -n -- ls", "sudo ls", 'r'),
        ("env LANG=C ls", "env ls", 'r'),
        ("env -i ls", "env ls", 'r'),
        ("LC_ALL=C TZ=UTC date", "date", 'r'),
        ("timeout 5 nice -n 5 ls", "timeout nice ls", 'r'),
        ("sh -c 'ls; pwd'", "sh ls pwd", 'r'),
        ("bash -lc \"cat x\"", "bash cat", 'r'),
        ("bash -euc 'ls'", "bash ls", 'r'),
        ("bash -s <<'E'\nls\nE", "bash ls", 'r'),
        ("ssh -p 22 web uptime", "ssh uptime", 'r'),
        ("ssh -oBatchMode=yes web 'cat x | wc'", "ssh cat wc", 'r'),
        ("eval 'ls; pwd'", "eval ls pwd", 'r'),
        ("trap 'ls' EXIT", "trap ls", 'r'),
        ("su - web -c 'ls'", "su ls", 'r'),
        ("watch -n 1 df -h", "watch df", 'r'),
        ("flock /tmp/l -c 'ls'", "flock ls", 'r'),
        ("command -v git", "command", 'r'),
        ("exec -a x ls", "exec ls", 'r'),
        ("sed -n '1,5p' x", "sed", 'r'),
        ("sed 's/a/b/g' x", "sed", 'r'),
        ("awk '{print $1}' x", "awk", 'r'),
        ("git -C /srv status", "git", 'r'),
        ("git log --oneline -5", "git", 'r'),
        ("systemctl status nginx", "systemctl", 'r'),
        ("systemctl --no-pager list-units", "systemctl", 'r'),
        ("docker ps -a", "docker", 'r'),
        ("date -u +%F", "date", 'r'),
        ("date -Iseconds -d yesterday", "date", 'r'),
        ("ss -tlnp", "ss", 'r'),
        ("tar tzf x.tgz", "tar", 'r'),
        ("python3 --version", "python3", 'r'),
        ("r''m --version", "rm", 'r'),
        ("set -euo pipefail; ls", "set ls", 'r'),
        ("echo $((1 + 2))", "echo", 'r'),
        ("diff <(ls a) <(ls b)", "ls ls diff", 'r'),
        ("ls *.txt ~/x {a,b}", "ls", 'r'),
        ("ls \u{fc} \u{1f600}", "ls", 'r'),
    ]);
}

#[test]
fn lines_that_write_what_they_name_are_told() {
    check(&[
        ("echo x > a", "echo", 'w'),
        ("echo x >> a", "echo", 'w'),
        ("ls >& a", "ls", 'w'),
        ("> a", "", 'w'),
        ("{ ls; pwd; } > a", "ls pwd", 'w'),
        ("cp a b", "cp", 'w'),
        ("cp \"$x\" b", "cp", 'w'),
        ("mkdir -p a/b", "mkdir", 'w'),
        ("( umask 77 && mkdir -p \"` echo /tmp/x `\" )", "umask echo mkdir", 'w'),
        ("ls | tee a", "ls tee", 'w'),
        ("ls | sudo tee /etc/x", "ls sudo tee", 'w'),
        ("curl -o a https://x/", "curl", 'w'),
        ("wget https://x/", "wget", 'w'),
        ("systemctl restart nginx", "systemctl", 'w'),
        ("git commit -m x", "git", 'w'),
        ("git push origin main", "git", 'w'),
        ("tar xzf x.tgz", "tar", 'w'),
        ("sed -i 's/a/b/' x", "sed", 'w'),
        ("chmod 644 x", "chmod", 'w'),
        ("chmod +x x", "chmod", 'w'),
        ("rsync -a a/ b/", "rsync", 'w'),
        ("touch a; ls", "touch ls", 'w'),
    ]);
}

#[test]
fn p2_lines_that_remove_are_told_however_they_are_written() {
    check(&[
        ("rm -rf /", "rm", 'd'),
        ("r''m x", "rm", 'd'),
        ("\\rm x", "rm", 'd'),
        ("\"rm\" x", "rm", 'd'),
        ("r\\\nm x", "rm", 'd'),
        ("rm\\\n -rf x", "rm", 'd'),
        ("$'\\x72m' x", "rm", 'd'),
        ("/bin/rm x", "rm", 'd'),
        ("/bin/../bin/rm x", "/bin/../bin/rm", 'd'),
        ("ls\nrm x", "ls rm", 'd'),
        ("ls;rm x", "ls rm", 'd'),
        ("ls&&rm x", "ls rm", 'd'),
        ("ls||rm x", "ls rm", 'd'),
        ("ls&rm x", "ls rm", 'd'),
        ("ls|rm x", "ls rm", 'd'),
        ("(rm x)", "rm", 'd'),
        ("{ rm x; }", "rm", 'd'),
        ("! rm x", "rm", 'd'),
        ("time rm x", "rm", 'd'),
        ("echo $(rm x)", "rm echo", 'd'),
        ("echo \"a $(rm x)\"", "rm echo", 'd'),
        ("echo `rm x`", "rm echo", 'd'),
        ("echo ${x:-$(rm x)}", "rm echo", 'd'),
        ("x=$(rm x)", "rm", 'd'),
        ("x=`rm x` ls", "rm ls", 'd'),
        ("cat < $(rm x)", "rm cat", 'd'),
        ("cat <(rm x)", "rm cat", 'd'),
        ("ls > >(rm x)", "rm ls", 'd'),
        ("cat <<E\n$(rm x)\nE", "rm cat", 'd'),
        ("cat <<E\n`rm x`\nE\nls", "rm cat ls", 'd'),
        ("cat <<E <$(rm x)\nE\n", "", 'd'),
        ("cat <<E\n$\\\n(rm x)\nE\n", "", 'd'),
        ("cat <<E\nx\nE\nrm x", "cat rm", 'd'),
        ("for f in $(rm x); do ls; done", "rm ls", 'd'),
        ("for f in a; do rm $f; done", "rm", 'd'),
        ("while rm x; do ls; done", "rm ls", 'd'),
        ("until ls; do rm x; done", "ls rm", 'd'),
        ("if rm x; then ls; fi", "rm ls", 'd'),
        ("if ls; then ls; elif rm x; then ls; fi", "ls ls rm ls", 'd'),
        ("if ls; then ls; else rm x; fi", "ls ls rm", 'd'),
        ("case $(rm x) in a) ls;; esac", "rm ls", 'd'),
        ("case a in $(rm x)) ls;; esac", "rm ls", 'd'),
        ("case a in a) ls;; b) rm x; esac", "ls rm", 'd'),
        ("f() { rm x; }; f", "rm f", 'd'),
        ("function f { rm x; }; f", "rm f", 'd'),
        ("ls() { rm x; }; ls", "rm ls", 'd'),
        ("[[ -n $(rm x) ]]", "rm", 'd'),
        ("coproc rm x", "rm", 'd'),
        ("sudo rm x", "sudo rm", 'd'),
        ("sudo -u x -- rm y", "sudo rm", 'd'),
        ("sudo -EHn A=b rm y", "sudo rm", 'd'),
        ("doas rm x", "doas rm", 'd'),
        ("env A=b rm x", "env rm", 'd'),
        ("env -i rm x", "env rm", 'd'),
        ("env -S 'rm x'", "env", 'd'),
        ("nohup rm x &", "nohup rm", 'd'),
        ("timeout -s KILL 5 rm x", "timeout rm", 'd'),
        ("nice rm x", "nice rm", 'd'),
        ("setsid -w rm x", "setsid rm", 'd'),
        ("stdbuf -oL rm x", "stdbuf rm", 'd'),
        ("exec rm x", "exec rm", 'd'),
        ("exec -a ls rm x", "exec rm", 'd'),
        ("command rm x", "command rm", 'd'),
        ("busybox rm x", "busybox rm", 'd'),
        ("ls | xargs rm", "ls xargs rm", 'd'),
        ("ls | xargs -0 -n 1 rm -f", "ls xargs rm", 'd'),
        ("ls | xargs -I{} rm {}", "ls xargs rm", 'd'),
        ("find . -delete", "find", 'd'),
        ("find . -exec rm {} \\;", "find rm", 'd'),
        ("find . -exec ls {} + -exec rm {} +", "find ls rm", 'd'),
        ("find . -exec sh -c 'rm \"$1\"' _ {} \\;", "find sh rm", 'd'),
        ("flock /tmp/l rm x", "flock rm", 'd'),
        ("watch rm x", "watch rm", 'd'),
        ("sh -c 'rm x'", "sh rm", 'd'),
        ("bash -lc 'rm x'", "bash rm", 'd'),
        ("sh -c \"sh -c 'rm x'\"", "sh sh rm", 'd'),
        ("bash -c -- 'rm x'", "bash rm", 'd'),
        ("bash -o pipefail -c 'rm x'", "bash rm", 'd'),
        ("eval 'rm' x", "eval rm", 'd'),
        ("trap 'rm x' EXIT", "trap rm", 'd'),
        ("su web -c 'rm x'", "su rm", 'd'),
        ("ssh web rm x", "ssh rm", 'd'),
        ("ssh web 'ls; rm x'", "ssh ls rm", 'd'),
        ("ssh web <<'E'\nrm x\nE", "ssh rm", 'd'),
        ("bash <<E\nrm x\nE", "bash rm", 'd'),
        ("sh -s <<'E'\nrm x\nE", "sh rm", 'd'),
        ("mv a b", "mv", 'd'),
        ("dd if=a of=b", "dd", 'd'),
        ("mkfs.ext4 /dev/sda", "mkfs.ext4", 'd'),
        ("kill -9 1", "kill", 'd'),
        ("reboot", "reboot", 'd'),
        ("systemctl stop nginx", "systemctl", 'd'),
        ("systemctl --no-pager stop nginx", "systemctl", 'd'),
        ("chmod -R 777 /", "chmod", 'd'),
        ("chmod u+s x", "chmod", 'd'),
        ("chmod 4755 x", "chmod", 'd'),
        ("chown root x", "chown", 'd'),
        ("git push --force", "git", 'd'),
        ("git push -uf origin x", "git", 'd'),
        ("git push origin +x", "git", 'd'),
        ("git push origin :x", "git", 'd'),
        ("git reset --hard", "git", 'd'),
        ("git -c core.pager=x log", "git", 'd'),
        ("git clone ext::sh%20x", "git", 'd'),
        ("rsync -a --del a b", "rsync", 'd'),
        ("tar xf a --to-command=sh", "tar", 'd'),
        ("tar cf a --checkpoint=1 --checkpoint-action=exec=x", "tar", 'd'),
        ("sort -o a b", "sort", 'd'),
        ("sed '1e rm x' a", "sed", 'd'),
        ("sed -n '1w x' a", "sed", 'd'),
        ("awk 'BEGIN{system(\"rm x\")}'", "awk", 'd'),
        ("docker run x", "docker", 'd'),
        ("psql -c 'drop table x'", "psql", 'd'),
        ("ls > /dev/sda", "ls", 'd'),
        ("tee /dev/sda", "tee", 'd'),
        ("cp a /dev/sda", "cp", 'd'),
        ("cp a /tmp/../dev/sda", "cp", 'd'),
        ("ls > $x", "ls", 'd'),
        ("date 01010000", "date", 'd'),
        ("date -s x", "date", 'd'),
        ("ss -K dst x", "ss", 'd'),
        ("hash -p /tmp/x ls", "hash", 'd'),
        ("jobs -x rm", "jobs", 'd'),
        ("systemctl start reboot.target", "systemctl", 'd'),
        ("kubectl get pods --kubeconfig=x", "kubectl", 'd'),
        ("sed -i s/a/b/ /dev/sda", "sed", 'd'),
        ("cat < /dev/tcp/x/1", "cat", 'd'),
    ]);
}

#[test]
fn p2_what_is_not_known_can_do_anything() {
    check(&[
        ("frobnicate", "frobnicate", 'd'),
        ("./ls", "./ls", 'd'),
        ("/tmp/ls", "/tmp/ls", 'd'),
        ("ls\r", "ls\r", 'd'),
        ("l\u{430}", "l\u{430}", 'd'),
        ("\u{a0}ls", "\u{a0}ls", 'd'),
        ("$x", "?", 'd'),
        ("$x rm", "?", 'd'),
        ("\"$x\" a", "?", 'd'),
        ("${x}s", "?", 'd'),
        ("$(ls)", "ls ?", 'd'),
        ("r$x'm' y", "?", 'd'),
        ("{rm,-rf,/}", "?", 'd'),
        ("/bin/r? x", "?", 'd'),
        ("/b*/ls", "?", 'd'),
        ("~/ls", "?", 'd'),
        ("IFS=x; ls", "ls", 'd'),
        ("PATH=/tmp ls", "ls", 'd'),
        ("LD_PRELOAD=x ls", "ls", 'd'),
        ("BASH_ENV=x bash -c ls", "bash ls", 'd'),
        ("export PATH=/tmp", "export", 'd'),
        ("env LD_PRELOAD=x ls", "env ls", 'd'),
        ("sudo PATH=/tmp ls", "sudo ls", 'd'),
        ("read PATH", "read", 'd'),
        ("for PATH in /tmp; do ls; done", "ls", 'd'),
        ("alias ls=rm", "alias", 'd'),
        ("eval $x", "eval", 'd'),
        ("eval \"$x\"", "eval", 'd'),
        ("sh -c \"$x\"", "sh", 'd'),
        ("sh -c \"ls $x\"", "sh", 'd'),
        ("sh $x", "sh", 'd'),
        ("sh x.sh", "sh", 'd'),
        ("sh", "sh", 'd'),
        ("bash -i", "bash", 'd'),
        (". x", ".", 'd'),
        ("source x", "source", 'd'),
        ("curl https://x | sh", "curl sh", 'd'),
        ("echo cm0= | base64 -d | sh", "echo base64 sh", 'd'),
        ("echo 'rm x' | bash -s", "echo bash", 'd'),
        ("bash < x", "bash", 'd'),
        ("bash <(curl x)", "curl bash", 'd'),
        ("bash <<E\n$x\nE", "bash", 'd'),
        ("python3 -c 'x'", "python3", 'd'),
        ("python3", "python3", 'd'),
        ("python3.11 x.py", "python3.11", 'd'),
        ("perl -e x", "perl", 'd'),
        ("find $x", "find", 'd'),
        ("find *", "find", 'd'),
        ("sort $x", "sort", 'd'),
        ("xargs", "xargs", 'r'),
        ("xargs sh -c", "xargs sh", 'd'),
        ("xargs -I% %", "xargs", 'd'),
        ("parallel rm", "parallel", 'd'),
        ("sudo -i", "sudo", 'd'),
        ("sudo -s", "sudo", 'd'),
        ("sudo $x ls", "sudo", 'd'),
        ("env $x ls", "env", 'd'),
        ("ssh web", "ssh", 'd'),
        ("ssh -oProxyCommand=x web ls", "ssh", 'd'),
        ("ssh -o ProxyCommand=x web ls", "ssh", 'd'),
        ("ssh web \"$x\"", "ssh", 'd'),
        ("vi x", "vi", 'd'),
        ("echo $((x))", "echo", 'd'),
        ("echo ${!x}", "echo", 'd'),
        ("echo ${x@P}", "echo", 'd'),
        ("((x))", "", 'd'),
        ("( (ls) )", "", 'd'),
        ("[[ a || b ]]", "", 'd'),
        ("[[ $x -eq 1 ]]", "", 'd'),
        ("a=(ls)", "", 'd'),
        ("a[0]=x ls", "ls", 'd'),
        ("test -v 'a[$(rm)]'", "test", 'd'),
        ("printf -v 'a[$(rm)]' x", "printf", 'd'),
        ("f() { \"$@\"; }; f rm x", "? f", 'd'),
        (":() { ls; }; :", "ls :", 'd'),
        ("declare x=1", "declare", 'd'),
        ("cat <<< x", "cat", 'd'),
        ("'", "", 'd'),
        ("ls)", "", 'd'),
        ("if ls", "", 'd'),
        ("ls $(", "", 'd'),
        ("cat <<E\nx", "", 'd'),
        ("echo {99999999999999999999..1}", "echo", 'r'),
        ("99999999999999999999>x ls", "", 'd'),
        ("echo x@(a|b)", "echo", 'd'),
    ]);
}

#[test]
fn words_redirects_and_contexts_are_told() {
    let reading = read(b"A=b sudo -u web sh -c 'cp \"a b\" $x >> out' < in");
    let sudo = &reading.commands[0];
    assert_eq!(sudo.assignments[0].0, "A");
    assert_eq!(
        (sudo.redirects[0].path.text.as_str(), sudo.redirects[0].path.literal),
        ("in", true)
    );
    let cp = &reading.commands[2];
    assert_eq!(
        (cp.program.as_str(), &cp.context[..]),
        ("cp", &["sudo -u web".into(), "sh -c".into()][..])
    );
    let words: Vec<(&str, bool)> =
        cp.arguments.iter().map(|word| (word.text.as_str(), word.literal)).collect();
    assert_eq!(words, [("a b", true), ("$x", false)]);
    assert_eq!(cp.redirects[0].path.text, "out");
    assert!(reading.reason.contains("the variable `A`"), "{}", reading.reason);
}

#[test]
fn p2_what_a_line_does_not_show_is_told() {
    use Hides::{Code, Nothing, Programs};
    let cases: &[(&str, &[Hides])] = &[
        ("ls /", &[Nothing]),
        ("rm -rf /srv", &[Nothing]),
        ("sudo rm x", &[Nothing, Nothing]),
        ("sh -c 'rm x' && env A=b rm y", &[Nothing, Nothing, Nothing, Nothing]),
        ("find / -delete", &[Nothing]),
        ("cat a | xargs rm", &[Nothing, Nothing, Nothing]),
        ("./deploy", &[Code]),
        ("deploy", &[Code]),
        ("/usr/bin/deploy", &[Code]),
        ("python3 x.py", &[Code]),
        ("python3", &[Code]),
        ("sh x.sh", &[Code]),
        ("psql -c 'select 1'", &[Code]),
        ("curl -X POST http://x", &[Code]),
        ("sh", &[Programs]),
        ("sh -c \"$x\"", &[Programs]),
        ("curl x | sh", &[Nothing, Programs]),
        ("sudo -i", &[Programs]),
        ("sudo $x", &[Programs]),
        ("$x", &[Programs]),
        ("ls | xargs sh -c", &[Nothing, Nothing, Programs]),
        ("eval $x", &[Programs]),
        ("zsh -c 'rm x'", &[Programs]),
        ("tar --to-command=rm -xf x", &[Programs]),
        ("vi x", &[Programs]),
        ("date -s 12:00", &[Nothing]),
        ("systemctl stop nginx", &[Code]),
    ];
    for (line, expected) in cases {
        let reading = read(line.as_bytes());
        let found: Vec<Hides> = reading.commands.iter().map(|command| command.hides).collect();
        assert_eq!(found, *expected, "{line}: {:?}", reading.commands);
    }
    assert_eq!(read(b"ls; rm x").unread, None);
    for line in ["rm x; [[ a || b ]]", "rm x; alias ls=rm", "rm x; $'ls'", "LD_PRELOAD=x rm x", "'"]
    {
        assert!(read(line.as_bytes()).unread.is_some(), "{line}");
    }
}

#[test]
fn lines_with_a_protocol_of_their_own_are_told() {
    let paths = |text: &str| vec![text.to_owned()];
    let cases = [
        ("scp -t /srv", Special::ScpTo { path: "/srv".into() }, 'w'),
        ("scp -r -p -d -t -- '/a b'", Special::ScpTo { path: "/a b".into() }, 'w'),
        ("scp -f /srv/x", Special::ScpFrom { paths: paths("/srv/x") }, 'r'),
        ("git-upload-pack '/srv/r.git'", Special::GitRead { repository: "/srv/r.git".into() }, 'r'),
        ("git upload-pack 'r'", Special::GitRead { repository: "r".into() }, 'r'),
        ("git-receive-pack 'r'", Special::GitWrite { repository: "r".into() }, 'd'),
        ("/usr/lib/openssh/sftp-server", Special::SftpServer, 'r'),
        ("internal-sftp", Special::SftpServer, 'r'),
        (
            "rsync --server --sender -logDtpre.iLsfxCIvu . /srv/",
            Special::RsyncSender { paths: paths("/srv/") },
            'r',
        ),
        (
            "rsync --server -logDtpre.iLsfxCIvu . dst",
            Special::RsyncReceiver { paths: paths("dst"), deletes: false },
            'w',
        ),
        (
            "rsync --server -vlogDtpre.iLsfxCIvu --delete . dst",
            Special::RsyncReceiver { paths: paths("dst"), deletes: true },
            'd',
        ),
    ];
    for (line, special, rung) in cases {
        let reading = read(line.as_bytes());
        assert_eq!(reading.special, Some(special), "{line}");
        assert_eq!(letter(&reading), rung, "{line}");
    }
    for line in [
        "scp -t a; rm x",
        "scp -S x -t a",
        "scp a b:",
        "scp -t $(rm x)",
        "git-upload-pack --exec=x r",
        "rsync --server --daemon .",
        "rsync --server --log-file=/etc/x -l . a",
        "/tmp/sftp-server",
        "PATH=/tmp scp -t a",
        "sudo scp -t a",
    ] {
        assert_eq!(read(line.as_bytes()).special, None, "{line}");
    }
    assert_eq!(letter(&read(b"rsync --server --daemon .")), 'd');
}

#[test]
fn p2_bytes_that_are_no_text_are_not_literal() {
    let reading = read(b"cat /srv/\xff\xfe");
    assert_eq!((reading.commands[0].program.as_str(), letter(&reading)), ("cat", 'r'));
    assert!(!reading.commands[0].arguments[0].literal);
    assert_eq!(letter(&read(b"l\xffs")), 'd');
    assert_eq!(letter(&read(b"ls\0; rm x")), 'd');
}

#[test]
fn p8_deep_and_long_lines_are_refused_and_not_followed() {
    let deep = |part: &str, count: usize| read(part.repeat(count).as_bytes());
    for reading in [
        deep("(", 100_000),
        deep("( ", 99),
        deep("(a;", 99),
        deep("{ ", 99),
        deep("if ", 99),
        deep("$(", 99),
        deep("\"$(", 90),
        deep("${x:-", 99),
        deep("`", 99),
        deep("f() (", 49),
        deep("cat <(", 4),
        deep("case a in a) ", 8),
        deep("coproc ", 90),
        deep("<<a ", 50),
        deep("[[ ( ", 40),
        deep("a=( ", 40),
        deep("{a,", 90),
    ] {
        assert_eq!(letter(&reading), 'd', "{}", reading.reason);
    }
    assert_eq!(letter(&deep("! ", 10_000)), 'r', "it runs nothing");
    let nested = |count: usize| format!("{}ls{}", "ls $(".repeat(count), ")".repeat(count));
    assert_eq!(letter(&read(nested(7).as_bytes())), 'r');
    assert_eq!(letter(&read(nested(8).as_bytes())), 'd');
    assert_eq!(letter(&read("sudo ".repeat(1000).as_bytes())), 'd');
    let many = read("ls;".repeat(5000).as_bytes());
    assert_eq!((many.commands.len(), letter(&many)), (1000, 'd'));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn p8_no_bytes_panic(line: Vec<u8>) {
        read(&line);
    }

    #[test]
    fn p8_no_line_of_the_shells_marks_panics(
        parts in proptest::collection::vec(prop_oneof![
            Just("ls"), Just(" "), Just("'"), Just("\""), Just("$("), Just(")"), Just("`"), Just("${"),
            Just("}"), Just("\\"), Just("\n"), Just("<<E"), Just("E"), Just(";"), Just("&"), Just("|"),
            Just("<"), Just(">"), Just("("), Just("{"), Just("$'"), Just("=x"), Just("a["), Just("if "),
            Just("case "), Just("1"), Just("#"), Just("[[ "), Just("in "), Just("rm"), Just("$x"),
            Just("*"), Just("~"), Just(":-"), Just("@("), Just("!"), Just("sudo "), Just("-c "),
        ], 0..40),
    ) {
        read(parts.concat().as_bytes());
    }
}
