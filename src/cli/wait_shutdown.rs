//! `/wait-shutdown`, the program that the preStop hook of ingress-nginx's chart runs: tells the controller in this
//! container to end, and waits until it has. It is this program under that name (image contract of ingress-nginx).

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{BAD_NEWS, OK, REPLACED};

/// How often it is looked whether the controller is still there. Kubernetes bounds the whole.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(err: &mut dyn Write) -> io::Result<u8> {
    run_in(Path::new("/proc"), err)
}

fn run_in(processes: &Path, err: &mut dyn Write) -> io::Result<u8> {
    let Some(pid) = find(processes) else {
        writeln!(err, "error: there is no controller in this container")?;
        return Ok(BAD_NEWS);
    };
    if let Err(error) = kill_process(pid, Signal::TERM) {
        writeln!(err, "error: the controller cannot be told to end: {error}")?;
        return Ok(BAD_NEWS);
    }
    while is_there(processes, pid) {
        sleep(LOOK);
    }
    Ok(OK)
}

/// The oldest process that is a controller.
fn find(processes: &Path) -> Option<Pid> {
    let own = std::process::id();
    let entries = fs::read_dir(processes).ok()?.filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let controllers = ids.filter(|id| u32::try_from(*id).is_ok_and(|id| id != own));
    controllers.filter(|id| is_controller(&processes.join(id.to_string()))).min().and_then(Pid::from_raw)
}

/// By its command line: `nginx-ingress-controller …` or `narthex controller …`.
fn is_controller(process: &Path) -> bool {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default().into_owned();
    let name = Path::new(&program).file_name().unwrap_or_default();
    name == REPLACED || (name == "narthex" && words.next().is_some_and(|word| word == "controller"))
}

/// A process that ended and that nobody has asked about yet counts as gone.
fn is_there(processes: &Path, pid: Pid) -> bool {
    let state = fs::read_to_string(processes.join(pid.as_raw_nonzero().to_string()).join("stat"));
    let state = state.unwrap_or_default();
    let after_name = state.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    after_name.is_some_and(|rest| !rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_controller_is_told_to_end_and_waited_for() {
        let mut child = Command::new("sleep").arg0("/nginx-ingress-controller").arg("600").spawn().unwrap();
        // A folder that shows this one process: others on the machine are nobody's business.
        let processes = tempfile::TempDir::new().unwrap();
        symlink(format!("/proc/{}", child.id()), processes.path().join(child.id().to_string())).unwrap();
        let started = |line: &[u8]| line.starts_with(b"/nginx-ingress-controller");
        while !started(&fs::read(format!("/proc/{}/cmdline", child.id())).unwrap()) {
            std::thread::yield_now();
        }
        let mut err = Vec::new();
        assert_eq!(run_in(processes.path(), &mut err).unwrap(), OK, "{}", String::from_utf8_lossy(&err));
        assert!(!child.wait().unwrap().success(), "it was killed");
    }

    #[test]
    fn without_a_controller_nothing_is_told_to_end() {
        let processes = tempfile::TempDir::new().unwrap();
        for (id, line) in [("1", "sh\0-c\0nginx-ingress-controller"), ("2", "narthex\0standalone"), ("x", "")]
        {
            fs::create_dir(processes.path().join(id)).unwrap();
            fs::write(processes.path().join(id).join("cmdline"), line).unwrap();
        }
        let mut err = Vec::new();
        assert_eq!(run_in(processes.path(), &mut err).unwrap(), BAD_NEWS);
        assert!(String::from_utf8(err).unwrap().contains("no controller"));
    }
}
