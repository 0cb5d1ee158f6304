// A blocking program in ordinary std, without a word about green threads. `std_twice.rs` includes this file twice: once where
// `std` is std, and once where it is `twistlet::green`. What it says must not depend on which.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError, TrySendError};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, PoisonError, RwLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| "lazy words".split(' ').collect());
static NAME: OnceLock<String> = OnceLock::new();
static START: Once = Once::new();

/// Everything it found out, a line each.
pub fn run(folder: &Path) -> String {
    LINES.lock().unwrap().clear();
    threads();
    locks();
    channels();
    tcp().expect("tcp");
    udp().expect("udp");
    unix(folder).expect("unix");
    files(folder).expect("files");
    children().expect("children");
    let lines = LINES.lock().unwrap();
    lines.join("\n")
}

fn say(what: impl std::fmt::Debug) {
    LINES.lock().unwrap().push(std::format!("{what:?}"));
}

/// std leaves open which of the two it is.
fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn threads() {
    let workers: Vec<thread::JoinHandle<usize>> = (0..4)
        .map(|n| {
            thread::Builder::new()
                .name(std::format!("worker {n}"))
                .spawn(move || {
                    thread::yield_now();
                    COUNT.fetch_add(n, Ordering::SeqCst);
                    thread::current().name().map_or(0, str::len) + n
                })
                .expect("spawned")
        })
        .collect();
    say(workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>());
    say(COUNT.swap(0, Ordering::SeqCst));

    let fails = thread::spawn(|| std::panic::panic_any("on purpose"));
    say(fails.join().map_err(|payload| *payload.downcast::<&str>().unwrap()));

    let numbers = [1, 2, 3];
    let mut sum = 0;
    let (doubled, named) = thread::scope(|s| {
        let doubled = s.spawn(|| numbers.iter().map(|n| n * 2).collect::<Vec<_>>());
        s.spawn(|| sum = numbers.iter().sum());
        let named = thread::Builder::new().name("scoped".to_string());
        let named = named.spawn_scoped(s, || thread::current().name().map(str::to_owned)).unwrap();
        let fails = s.spawn(|| std::panic::panic_any(5u8));
        say(fails.join().map_err(|payload| *payload.downcast::<u8>().unwrap()));
        (doubled.join().unwrap(), named.join().unwrap())
    });
    say((doubled, named, sum));

    let parked = thread::spawn(|| {
        thread::park();
        "unparked"
    });
    parked.thread().unpark();
    say(parked.join().unwrap());
    let start = Instant::now();
    thread::sleep(Duration::from_millis(3));
    say(start.elapsed() >= Duration::from_millis(3));
    thread::current().unpark();
    thread::park_timeout(Duration::from_secs(60));
    say(thread::panicking());
}

fn locks() {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let adders: Vec<_> = (0..5)
        .map(|n| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                *shared.0.lock().unwrap() += n;
                shared.1.notify_all();
            })
        })
        .collect();
    let sum = shared.1.wait_while(shared.0.lock().unwrap(), |sum| *sum < 10).unwrap();
    say(*sum);
    let (sum, late) = shared.1.wait_timeout(sum, Duration::from_millis(2)).unwrap();
    say((*sum, late.timed_out() || *sum == 10));
    say(matches!(shared.0.try_lock(), Err(TryLockError::WouldBlock)));
    drop(sum);
    adders.into_iter().for_each(|adder| adder.join().unwrap());

    let poisoned = Arc::clone(&shared);
    let fails = thread::spawn(move || {
        let _held = poisoned.0.lock().unwrap();
        std::panic::panic_any("with the lock");
    });
    say(fails.join().is_err());
    say((shared.0.is_poisoned(), shared.0.lock().map_or_else(|held| *held.into_inner(), |held| *held)));
    shared.0.clear_poison();
    say(&shared.0);
    say(*shared.0.lock().unwrap_or_else(PoisonError::into_inner));

    let table = Arc::new(RwLock::new(BTreeMap::new()));
    let barrier = Arc::new(Barrier::new(3));
    let writers: Vec<_> = (0..3)
        .map(|n| {
            let (table, barrier) = (Arc::clone(&table), Arc::clone(&barrier));
            thread::spawn(move || {
                table.write().unwrap().insert(n, n * n);
                let leads = barrier.wait().is_leader();
                (leads, table.read().unwrap().len())
            })
        })
        .collect();
    let seen: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    say((seen.iter().filter(|seen| seen.0).count(), seen.iter().map(|seen| seen.1).collect::<Vec<_>>()));
    say(&table);

    say(NAME.get_or_init(|| "named once".to_string()));
    START.call_once(|| thread::sleep(Duration::from_millis(1)));
    say((NAME.set(String::new()).is_err(), START.is_completed(), WORDS.len()));
}

fn channels() {
    let (send, recv) = mpsc::channel();
    for n in 0..3 {
        let send = send.clone();
        thread::spawn(move || {
            for item in 0..3 {
                send.send(n * 10 + item).unwrap();
                thread::yield_now();
            }
        });
    }
    say(recv.recv_timeout(Duration::from_secs(10)).is_ok());
    drop(send);
    let mut rest: Vec<_> = recv.iter().collect();
    rest.sort();
    say(rest.len());
    say((recv.recv(), recv.try_recv() == Err(TryRecvError::Disconnected)));

    let (send, recv) = mpsc::sync_channel(1);
    say((send.try_send(1), send.try_send(2) == Err(TrySendError::Full(2))));
    let sender = thread::spawn(move || send.send(3));
    say((recv.recv(), recv.recv(), sender.join().unwrap()));
    let (send, recv) = mpsc::sync_channel::<u8>(0);
    say(recv.recv_timeout(Duration::from_millis(2)) == Err(RecvTimeoutError::Timeout));
    let sender = thread::spawn(move || send.send(4));
    say((recv.recv(), sender.join().unwrap()));
    say(recv);
}

fn tcp() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> std::io::Result<usize> {
        let mut served = 0;
        for stream in listener.incoming().take(3) {
            let mut stream = stream?;
            thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for line in lines {
                    stream.write_all(line.unwrap().to_uppercase().as_bytes()).unwrap();
                    stream.write_all(b"\n").unwrap();
                }
            });
            served += 1;
        }
        Ok(served)
    });
    let clients: Vec<_> = (0..3)
        .map(|n| {
            thread::spawn(move || -> std::io::Result<String> {
                let mut stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                std::write!(stream, "hello {n}\nand bye\n")?;
                stream.shutdown(Shutdown::Write)?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer)
            })
        })
        .collect();
    for client in clients {
        say(client.join().unwrap()?);
    }
    say(server.join().unwrap()?);

    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    say(TcpStream::connect(closed).map_err(|error| error.kind()).map(drop));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let quiet = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(5))?;
    quiet.set_read_timeout(Some(Duration::from_millis(3)))?;
    say(quiet.read_timeout()?.is_some());
    say((&quiet).read(&mut [0; 8]).map_err(|error| is_timeout(&error)));
    quiet.set_nonblocking(true)?;
    say((&quiet).read(&mut [0; 8]).map_err(|error| error.kind()));
    let found: Vec<SocketAddr> = ("127.0.0.1", 80).to_socket_addrs()?.collect();
    say(found);
    Ok(())
}

fn udp() -> std::io::Result<()> {
    let (one, two) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let to = two.local_addr()?;
    let from = one.local_addr()?;
    let answers = thread::spawn(move || -> std::io::Result<(usize, bool)> {
        let mut buffer = [0; 64];
        let (length, whence) = two.recv_from(&mut buffer)?;
        two.send_to(&buffer[..length - 1], whence)?;
        Ok((length, whence == from))
    });
    one.send_to(b"datagram", to)?;
    one.connect(to)?;
    let mut buffer = [0; 64];
    let length = one.recv(&mut buffer)?;
    say((std::str::from_utf8(&buffer[..length]).unwrap(), answers.join().unwrap()?));
    one.set_read_timeout(Some(Duration::from_millis(3)))?;
    say(one.recv(&mut buffer).map_err(|error| is_timeout(&error)));
    Ok(())
}

fn unix(folder: &Path) -> std::io::Result<()> {
    let path = folder.join("socket");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    let server = thread::spawn(move || -> std::io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        std::io::copy(&mut stream.try_clone()?, &mut stream)
    });
    let mut stream = UnixStream::connect(&path)?;
    stream.write_all(b"over a path")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    say((String::from_utf8_lossy(&answer).into_owned(), server.join().unwrap()?));
    let (mut near, mut far) = UnixStream::pair()?;
    let reads = thread::spawn(move || {
        let mut got = [0; 4];
        far.read_exact(&mut got).map(|()| got)
    });
    near.write_all(b"pair")?;
    say(reads.join().unwrap()?);
    let (near, far) = UnixDatagram::pair()?;
    near.send(b"message")?;
    let mut got = [0; 16];
    say((far.recv(&mut got)?, std::fs::remove_file(&path).is_ok()));
    Ok(())
}

fn files(folder: &Path) -> std::io::Result<()> {
    let path = folder.join("file");
    std::fs::write(&path, "one\ntwo\nthree\n")?;
    let mut file = std::fs::OpenOptions::new().read(true).append(true).open(&path)?;
    file.write_all(b"four\n")?;
    file.seek(SeekFrom::Start(4))?;
    let lines: Vec<String> = BufReader::new(&file).lines().collect::<Result<_, _>>()?;
    say(lines);
    say((file.metadata()?.len(), std::fs::read_to_string(&path)?.lines().count()));
    let below = folder.join("below");
    std::fs::create_dir_all(below.join("deeper"))?;
    say(std::fs::copy(&path, below.join("copy"))?);
    std::fs::rename(below.join("copy"), below.join("moved"))?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&below)? {
        let entry = entry?;
        names.push((entry.file_name().into_string().unwrap(), entry.file_type()?.is_dir()));
    }
    names.sort();
    say(names);
    std::fs::remove_dir_all(&below)?;
    say(std::fs::File::open(below.join("moved")).map_err(|error| error.kind()).map(drop));
    std::fs::remove_file(&path)?;

    let mut memory = Cursor::new(Vec::new());
    say(std::io::copy(&mut "in memory".as_bytes(), &mut memory)?);
    let (mut reader, mut writer) = std::io::pipe()?;
    let writes = thread::spawn(move || writer.write_all(b"through a pipe"));
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    writes.join().unwrap()?;
    say(text);
    Ok(())
}

fn children() -> std::io::Result<()> {
    let output = Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output()?;
    say((String::from_utf8_lossy(&output.stdout).into_owned(), output.stderr.len(), output.status.code()));
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().unwrap();
    let writes = thread::spawn(move || input.write_all(&[b'x'; 200_000]));
    let mut all = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut all)?;
    writes.join().unwrap()?;
    say((all.len(), child.wait()?.success()));
    let mut sleeper = Command::new("sleep").arg("60").spawn()?;
    say(sleeper.try_wait()?.is_none());
    sleeper.kill()?;
    say(sleeper.wait()?.success());
    say(Command::new("/no/such/program").spawn().map_err(|error| error.kind()).map(drop));
    let mut text = String::new();
    std::writeln!(text, "{}", Command::new("true").status()?.success()).unwrap();
    say(text);
    Ok(())
}
