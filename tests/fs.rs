//! `green::fs`: side by side with std's. Rule GM-11.
#![cfg(feature = "green")]
mod guard;
use guard::{guarded, in_callback, joined, panic_of};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use twistlet::green::fs::unix::{DirBuilderExt, DirEntryExt, FileExt, OpenOptionsExt, PermissionsExt, symlink};
use twistlet::green::fs::{self, DirBuilder, File, OpenOptions};
use twistlet::green::process::{Command, Stdio};
use twistlet::green::{sleep, spawn, with_timeout, yield_now};

/// A folder of its own for each test.
struct Folder(PathBuf);
impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("twistlet-fs-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
fn noise(size: usize) -> Vec<u8> {
    (0..size as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn the_functions_do_what_those_of_std_do() {
    guarded(|| {
        let folder = Folder::new("functions");
        let (a, b, link) = (folder.at("a"), folder.at("b"), folder.at("link"));
        fs::write(&a, "some text").expect("written");
        assert_eq!(fs::read(&a).expect("read"), std::fs::read(&a).expect("read"));
        assert_eq!(fs::read_to_string(&a).expect("read"), "some text");
        assert_eq!(fs::copy(&a, &b).expect("copied"), 9);
        fs::rename(&b, folder.at("c")).expect("renamed");
        assert!(!fs::exists(&b).expect("asked") && fs::exists(folder.at("c")).expect("asked"));
        fs::hard_link(&a, &b).expect("linked");
        symlink(&a, &link).expect("linked");
        assert_eq!(fs::read_link(&link).expect("a link"), a);
        assert_eq!(fs::canonicalize(&link).expect("there"), std::fs::canonicalize(&a).expect("there"));
        assert!(
            fs::symlink_metadata(&link).expect("there").is_symlink() && fs::metadata(&link).expect("there").is_file()
        );
        assert_eq!(fs::metadata(&a).expect("there").len(), 9);
        fs::set_permissions(&a, fs::Permissions::from_mode(0o640)).expect("ours");
        assert_eq!(fs::metadata(&a).expect("there").permissions().mode() & 0o777, 0o640);

        fs::create_dir(folder.at("x")).expect("made");
        fs::create_dir_all(folder.at("x/y/z")).expect("made");
        DirBuilder::new().recursive(true).mode(0o700).create(folder.at("p/q")).expect("made");
        assert_eq!(fs::metadata(folder.at("p/q")).expect("there").permissions().mode() & 0o777, 0o700);
        let names: BTreeSet<_> =
            fs::read_dir(&folder.0).expect("there").map(|entry| entry.expect("there").file_name()).collect();
        let theirs: BTreeSet<_> =
            std::fs::read_dir(&folder.0).expect("there").map(|entry| entry.expect("there").file_name()).collect();
        assert_eq!(names, theirs);
        for entry in fs::read_dir(&folder.0).expect("there") {
            let entry = entry.expect("there");
            let metadata = std::fs::symlink_metadata(entry.path()).expect("there");
            assert_eq!(entry.file_type().expect("known"), metadata.file_type());
            assert_eq!(entry.metadata().expect("there").len(), metadata.len());
            assert_eq!(entry.ino(), std::os::unix::fs::MetadataExt::ino(&metadata));
        }
        fs::remove_dir(folder.at("x/y/z")).expect("removed");
        fs::remove_dir_all(folder.at("x")).expect("removed");
        fs::remove_file(&a).expect("removed");
        assert!(!Path::new(&a).exists());
    });
}

#[test]
fn errors_are_those_of_std() {
    guarded(|| {
        let folder = Folder::new("errors");
        let none = folder.at("none");
        let code = |result: std::io::Result<()>| result.expect_err("an error").raw_os_error();
        assert_eq!(code(fs::read(&none).map(drop)), code(std::fs::read(&none).map(drop)));
        assert_eq!(code(File::open(&none).map(drop)), code(std::fs::File::open(&none).map(drop)));
        assert_eq!(code(fs::read_dir(&none).map(drop)), code(std::fs::read_dir(&none).map(drop)));
        assert_eq!(code(fs::create_dir(&folder.0)), code(std::fs::create_dir(&folder.0)));
        assert_eq!(code(fs::remove_file(&folder.0)), code(std::fs::remove_file(&folder.0)));
        assert_eq!(code(fs::read(&folder.0).map(drop)), code(std::fs::read(&folder.0).map(drop)));
        assert_eq!(File::create_new(folder.at("new")).map(drop).ok(), Some(()));
        assert_eq!(File::create_new(folder.at("new")).expect_err("there").kind(), ErrorKind::AlreadyExists);
        let mut read_only = File::open(folder.at("new")).expect("there");
        assert_eq!(code(read_only.write(b"x").map(drop)), Some(libc::EBADF));
        fs::write(folder.at("bad"), b"\xff").expect("written");
        let ours = fs::read_to_string(folder.at("bad")).expect_err("no text");
        let theirs = std::fs::read_to_string(folder.at("bad")).expect_err("no text");
        assert_eq!((ours.kind(), ours.to_string()), (theirs.kind(), theirs.to_string()));
        let mut text = "kept".to_owned();
        let ours = File::open(folder.at("bad")).expect("there").read_to_string(&mut text).expect_err("no text");
        assert_eq!((ours.kind(), ours.to_string(), text.as_str()), (theirs.kind(), theirs.to_string(), "kept"));
        let theirs = std::fs::OpenOptions::new().open(folder.at("new")).expect_err("to what end?");
        assert_eq!(OpenOptions::new().open(folder.at("new")).expect_err("to what end?").kind(), theirs.kind());
    });
}

#[test]
fn a_file_reads_writes_and_seeks_as_stds() {
    guarded(|| {
        let folder = Folder::new("file");
        let path = folder.at("file");
        let data = noise(1_000_000);
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("made");
        file.write_all(&data).expect("written");
        write!(file, "{}-{}", 1, 2).expect("written");
        assert_eq!(file.write(&[]).expect("nothing to do"), 0);
        assert_eq!(file.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]).expect("written"), 4);
        file.sync_all().and_then(|()| file.sync_data()).expect("on the disk");
        assert_eq!(file.stream_position().expect("asked"), 1_000_007);
        assert_eq!(file.seek(SeekFrom::End(-4)).expect("sought"), 1_000_003);
        let mut end = String::new();
        file.read_to_string(&mut end).expect("text");
        assert_eq!(end, "abcd");
        file.rewind().expect("sought");
        let mut back = Vec::new();
        (&file).take(data.len() as u64).read_to_end(&mut back).expect("read");
        assert!(back == data);
        assert_eq!(file.metadata().expect("asked").len(), 1_000_007);
        // Clones have one position.
        let mut clone = file.try_clone().expect("cloned");
        let mut three = [0; 3];
        clone.read_exact(&mut three).expect("read");
        assert_eq!(&three, b"1-2");
        assert_eq!(file.stream_position().expect("asked"), 1_000_003);
        // At a place, without it.
        file.write_all_at(b"xy", 10).expect("written");
        clone.read_exact_at(&mut three, 9).expect("read");
        assert_eq!(three, [data[9], b'x', b'y']);
        assert_eq!(file.read_exact_at(&mut three, 2_000_000).expect_err("beyond").kind(), ErrorKind::UnexpectedEof);
        assert_eq!(file.stream_position().expect("asked"), 1_000_003);
        file.set_len(3).expect("cut");
        file.rewind().expect("sought");
        assert_eq!(file.read(&mut [0; 100]).expect("read"), 3);
        assert_eq!(file.read(&mut [0; 100]).expect("the end"), 0);
        assert_eq!(file.read(&mut []).expect("nothing to do"), 0);
        file.set_permissions(fs::Permissions::from_mode(0o600)).expect("ours");
        drop(clone);
        let std_file = file.into_std().expect("ours alone");
        assert_eq!(std_file.metadata().expect("asked").len(), 3);

        let mut log = OpenOptions::new().append(true).create(true).mode(0o600).open(folder.at("log")).expect("made");
        log.write_all(b"one").expect("written");
        let mut writer = BufWriter::new(&log);
        for n in 0..1000 {
            writeln!(writer, "{n}").expect("written");
        }
        writer.flush().expect("written");
        drop(writer);
        let lines: Vec<_> =
            BufReader::new(File::open(folder.at("log")).expect("there")).lines().map_while(Result::ok).collect();
        assert_eq!((lines.len(), lines[0].as_str(), lines[999].as_str()), (1000, "one0", "999"));
    });
}

#[test]
fn a_folder_of_many_is_read_whole() {
    guarded(|| {
        let folder = Folder::new("many");
        for n in 0..1000 {
            std::fs::write(folder.at(&n.to_string()), "").expect("written");
        }
        let names: BTreeSet<_> =
            fs::read_dir(&folder.0).expect("there").map(|entry| entry.expect("there").file_name()).collect();
        assert_eq!(names.len(), 1000);
        let mut half = fs::read_dir(&folder.0).expect("there");
        assert!(half.by_ref().take(500).all(|entry| entry.is_ok()));
        assert_eq!(half.count(), 500);
    });
}

#[test]
fn the_loop_goes_on_while_big_files_are_read_and_a_child_runs() {
    let body = || {
        let folder = Folder::new(&format!("big{:?}", std::thread::current().id()));
        let (big, data) = (folder.at("big"), noise(20_000_000));
        std::fs::write(&big, &data).expect("written");
        let longest = Rc::new(Cell::new(Duration::ZERO));
        let measured = longest.clone();
        let ticker = spawn(move || {
            let mut last = std::time::Instant::now();
            while measured.get() < Duration::MAX {
                sleep(Duration::from_millis(1));
                measured.set(measured.get().max(last.elapsed()));
                last = std::time::Instant::now();
            }
        });
        let child = spawn(|| Ok(Command::new("sh").args(["-c", "sleep 0.1; echo out"]).output()?.stdout));
        let readers: Vec<_> = (0..4)
            .map(|n| {
                let big = big.clone();
                spawn(move || {
                    let mut file = File::open(&big)?;
                    let mut back = Vec::new();
                    if n % 2 == 0 {
                        file.read_to_end(&mut back)?;
                    } else {
                        BufReader::with_capacity(100_000, file).read_to_end(&mut back)?;
                    }
                    Ok(back)
                })
            })
            .collect();
        for reader in readers {
            assert!(reader.wait().expect("read") == data);
        }
        assert_eq!(child.wait().expect("ran"), b"out\n");
        ticker.kill();
        println!("the loop was held for at most {:?}", longest.get());
    };
    guarded(body);
    joined(move |reactor| {
        spawn(move || {
            body();
            reactor.stop()
        });
    });
}

#[test]
fn a_kill_leaves_the_call_at_once_and_the_file_usable() {
    guarded(|| {
        let folder = Folder::new("kill");
        let fifo = folder.at("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("it runs").success());
        // Waits for somebody who writes.
        let opening = fifo.clone();
        let opener = spawn(move || Ok(File::open(opening)?));
        yield_now();
        assert!(with_timeout(Duration::from_millis(20), || File::open(&fifo).map(drop)).is_err());
        opener.kill();
        assert!(opener.wait().is_err());
        // Both threads get their file, and close it.
        let writer = OpenOptions::new().write(true).open(&fifo).expect("they wait");
        drop(writer);

        let path = folder.at("file");
        fs::write(&path, noise(1000)).expect("written");
        let file = Rc::new(File::open(&path).expect("there"));
        let reading = file.clone();
        let reader = spawn(move || Ok((&*reading).read(&mut [0; 100])?));
        yield_now();
        reader.kill();
        assert!(reader.wait().is_err());
        // The read is made all the same, sooner or later.
        let mut rest = Vec::new();
        (&*file).rewind().expect("sought");
        (&*file).read_to_end(&mut rest).expect("read");
        assert!(rest.len() == 1000 || rest.len() == 900, "{}", rest.len());
    });
}

#[test]
fn a_buffered_writer_of_a_killed_green_thread_is_flushed() {
    guarded(|| {
        let folder = Folder::new("flushed");
        let path = folder.at("file");
        let writing = path.clone();
        let writer = spawn(move || {
            let mut writer = BufWriter::new(File::create(writing)?);
            writer.write_all(b"to be kept")?;
            sleep(Duration::from_secs(60));
            Ok(())
        });
        while std::fs::metadata(&path).is_err() {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(5));
        writer.kill();
        assert!(writer.wait().is_err());
        assert_eq!(fs::read(&path).expect("there"), b"to be kept");
    });
}

#[test]
fn without_a_loop_calls_are_made_right_there_and_in_callbacks_they_panic() {
    let folder = Folder::new("where");
    let path = folder.at("file");
    fs::write(&path, "no reactor here").expect("written");
    let read = path.clone();
    let said = in_callback(move || panic_of(|| fs::read(&read)));
    assert!(said.contains("a blocking call in the main loop"), "{said}");
    guarded(move || {
        sleep(Duration::ZERO);
        twistlet::Reactor::current().close();
        assert_eq!(fs::read_to_string(&path).expect("read"), "no reactor here");
        drop(folder);
    });
}

#[test]
fn locks_exclude_each_other_and_a_killed_waiter_gets_none() {
    guarded(|| {
        let folder = Folder::new("locks");
        let path = folder.at("lock");
        let open = || File::create(&path).expect("made");
        let (first, second, third) = (open(), open(), open());
        first.lock().expect("free");
        assert!(second.try_lock().is_err() && second.try_lock_shared().is_err());
        let killed = spawn(move || Ok(second.lock()?));
        let waiting = spawn(move || {
            third.lock()?;
            Ok(third)
        });
        sleep(Duration::from_millis(10));
        killed.kill();
        assert!(killed.wait().is_err());
        first.unlock().expect("ours");
        let third = waiting.wait().expect("locked");
        assert!(first.try_lock().is_err());
        third.unlock().expect("ours");
        first.lock_shared().expect("free");
        third.lock_shared().expect("to share");
    });
}

#[test]
fn a_file_may_be_a_childs_stream() {
    guarded(|| {
        let folder = Folder::new("child");
        fs::write(folder.at("in"), "b\na\n").expect("written");
        let (input, output) =
            (File::open(folder.at("in")).expect("there"), File::create(folder.at("out")).expect("made"));
        let status = Command::new("sort").stdin(input).stdout(Stdio::from(output)).status().expect("it runs");
        assert!(status.success());
        assert_eq!(fs::read_to_string(folder.at("out")).expect("there"), "a\nb\n");
    });
}
