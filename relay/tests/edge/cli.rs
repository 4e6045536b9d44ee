//! The binary: its one line, its exit codes, and where options come from.

use super::support::{Client, soon};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A configuration file of its own, removed at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockrelay-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockrelay"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    soon("the end of the process", command(arguments, environment).output())
        .await
        .unwrap()
}

/// A relay that was started as a process.
struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Process {
    async fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(arguments, environment).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = soon("the banner", stdout.next_line()).await.unwrap().expect("a banner");
        let address = line.strip_prefix("listening on http://").expect("a banner").to_owned();
        Self { child, stdout, address }
    }

    /// Sends a signal by name; tells the exit code, and what was logged.
    async fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.child.id().unwrap().to_string();
        let killed = Command::new("/bin/kill")
            .args(["-s", signal, &id])
            .status()
            .await
            .unwrap();
        assert!(killed.success());
        let status = soon("the stop", self.child.wait()).await.unwrap();
        assert_eq!(
            self.stdout.next_line().await.unwrap(),
            None,
            "the banner is all that stdout gets"
        );
        let mut logs = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut logs)
            .await
            .unwrap();
        (status.code(), logs)
    }
}

#[tokio::test]
async fn it_prints_its_real_port_and_stops_cleanly_with_clients_connected() {
    for signal in ["TERM", "INT"] {
        let process = Process::start(&["--listen", "127.0.0.1:0"], &[]).await;
        assert!(!process.address.ends_with(":0"), "{}", process.address);
        let mut client = Client::connect(process.address.parse().unwrap(), None).await;
        client.hello().await;
        let (stopped, closed) = tokio::join!(process.stop(signal), client.closed());
        assert_eq!(closed.unwrap().0, 1001);
        let (code, logs) = stopped;
        assert_eq!(code, Some(0), "{logs}");
        assert!(logs.contains("every lock is denied"), "{logs}");
        assert!(!logs.contains('\u{1b}'), "colours are for terminals: {logs}");
    }
}

#[tokio::test]
async fn the_command_line_goes_before_variables_and_variables_before_the_file() {
    let file = File::new("precedence", "listen = \"127.0.0.1:0\"\nlog_format = \"json\"");
    let config = ["--config", file.path()];
    let json = |logs: &str| logs.lines().all(|line| line.starts_with('{'));

    let (_, logs) = Process::start(&config, &[]).await.stop("TERM").await;
    assert!(json(&logs), "the file's: {logs}");

    let text = [("LOCKRELAY_LOG_FORMAT", "text"), ("LOCKRELAY_CONFIG", file.path())];
    let (_, logs) = Process::start(&[], &text).await.stop("TERM").await;
    assert!(!json(&logs), "the variable's: {logs}");

    let arguments = ["--log-format", "json"];
    let (_, logs) = Process::start(&arguments, &text).await.stop("TERM").await;
    assert!(json(&logs), "the command line's: {logs}");

    // Set to nothing is not set.
    let empty = [("LOCKRELAY_LOG_FORMAT", ""), ("LOCKRELAY_REDIS", "")];
    let (_, logs) = Process::start(&config, &empty).await.stop("TERM").await;
    assert!(json(&logs), "the file's again: {logs}");
}

/// Arguments, variables, and how the error begins.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn a_wrong_configuration_ends_with_code_2_and_one_line() {
    let file = File::new("wrong", "demo = true\nlisten = 1");
    let place = format!("{}:2: listen is of type integer", file.path());
    let cases: &[Case] = &[
        (&["--config", file.path()], &[], &place),
        (
            &["--config", "/nowhere.toml"],
            &[],
            "--config: cannot read \"/nowhere.toml\": ",
        ),
        (
            &[],
            &[("LOCKRELAY_CONFIG", "/nowhere.toml")],
            "LOCKRELAY_CONFIG: cannot read \"/nowhere.toml\": ",
        ),
        (
            &["--listen", "8787"],
            &[],
            "--listen: \"8787\" is not an address; allowed: HOST:PORT",
        ),
        (
            &[],
            &[("LOCKRELAY_LISTEN", "8787")],
            "LOCKRELAY_LISTEN: \"8787\" is not an address; allowed: ",
        ),
        (
            &["--redis", "db:secret@host"],
            &[],
            "--redis: \"***\" is not a Redis URL; allowed: redis://",
        ),
        (
            &["--demo=maybe"],
            &[],
            "--demo: \"maybe\" is neither; allowed: true, false",
        ),
        (
            &[],
            &[("LOCKRELAY_DEMO", "maybe")],
            "LOCKRELAY_DEMO: \"maybe\" is neither; allowed: true, false",
        ),
        (
            &["--log-format", "xml"],
            &[],
            "--log-format: \"xml\" is not a log format; allowed: \"text\", \"json\"",
        ),
        (&["--log", "a=b=c"], &[], "--log: \"a=b=c\" is not a filter"),
        (&["--www", "/nowhere"], &[], "www: \"/nowhere\" is not a folder"),
        (
            &["--durations", "heartbeat"],
            &[],
            "--durations: \"heartbeat\" has no value; allowed: NAME=MILLISECONDS",
        ),
        (
            &["--durations", "heartbeat_millis=1s"],
            &[],
            "--durations: \"heartbeat_millis=1s\" is not a number of milliseconds",
        ),
        (
            &[],
            &[("LOCKRELAY_DURATIONS", "hello_millis=1,hartbeat_millis=1")],
            "LOCKRELAY_DURATIONS: unknown duration \"hartbeat_millis\"; did you mean \"heartbeat_millis\"? allowed: ",
        ),
        // The lease may not outlast the silence after which it is freed.
        (
            &["--durations", "client_lease_millis=5000,silence_millis=4000"],
            &[],
            "durations: silence_millis is 4000, less than client_lease_millis, 5000: ",
        ),
    ];
    for (arguments, environment, start) in cases {
        let output = run(arguments, environment).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        let error = error.strip_prefix("lockrelay: ").expect("its name");
        assert!(error.starts_with(start), "{error:?} should start with {start:?}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("secret"), "{error}");
        assert!(output.stdout.is_empty());
    }
    let unknown = run(&["--lisen", "x"], &[]).await;
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("--listen"));
    let help = run(&["--help"], &[]).await;
    assert_eq!(help.status.code(), Some(0));
}

#[tokio::test]
async fn an_address_that_is_taken_ends_with_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--listen", &address], &[]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.starts_with(&format!("lockrelay: cannot listen on {address}: ")),
        "{error}"
    );
}

#[tokio::test]
async fn a_redis_that_is_not_there_ends_with_code_1_and_without_the_password() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("redis://:secret@{free}");
    let output = run(&["--listen", "127.0.0.1:0", "--redis", &url], &[]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let start = format!("lockrelay: redis://***@{free}: the store did not answer: ");
    assert!(error.contains(&start), "{error}");
}
