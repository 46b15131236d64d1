//! Moving to a table of another shape (W11).

use super::*;
use crate::table::Full;
use shm_layout::header::Identity;

/// Why a move cannot begin, or has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// Another move is under way.
    #[error("the table is moving to {bytes} bytes already; wait until that has ended")]
    UnderWay {
        /// Bytes of the successor.
        bytes: u64,
    },
    /// The table already has the requested shape.
    #[error(
        "the table has this shape already ({bytes} bytes, {buckets} buckets); there is nothing to do"
    )]
    SameShape {
        /// Bytes of the table.
        bytes: u64,
        /// Buckets of its index.
        buckets: u32,
    },
    /// Impossible sizes.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Entries that are never evicted would not fit the new table.
    #[error(
        "the table holds {held} entries that are never evicted (evict = \"never\"), of {held_bytes} \
         bytes, and a table of {bytes} bytes with this index takes {most} of them, of {most_bytes} \
         bytes; choose a larger one, or delete some of their keys"
    )]
    Pinned {
        /// Bytes of the new table.
        bytes: u64,
        /// Bytes of such entries.
        held_bytes: u64,
        /// Their number.
        held: u64,
        /// Bytes of them that the new table can hold.
        most_bytes: u64,
        /// Number of them that it can hold.
        most: u64,
    },
    /// An entry that is never evicted did not fit the new table.
    #[error(
        "the new table has no room for an entry that is never evicted ({0}); the table stays as it \
         is: choose a larger one"
    )]
    NoRoom(PutError),
    /// The new file could not be made.
    #[error(transparent)]
    File(#[from] FileError),
    /// The thread that makes the new file has panicked.
    #[error(
        "making the new table has failed, and the old one stays in use; the daemon's log says why"
    )]
    Abandoned,
}

/// The result of a step of a move.
#[derive(Debug)]
pub enum Step {
    /// No move is under way.
    Idle,
    /// The successor is still being made.
    Waiting,
    /// The next step can be taken at once.
    More,
    /// The successor is in force, or the move has failed.
    Ended(Result<(), MoveError>),
}

impl Tables {
    /// Begins to move all entries to a new table of this shape; [`step`](Self::step) continues the
    /// move.
    ///
    /// # Errors
    /// Another move is under way, the table already has this shape, or the sizes are impossible.
    pub fn begin_move(&mut self, shape: &Plan) -> Result<(), MoveError> {
        let epoch_ns = self.current().writer().geometry().identity().epoch_ns;
        self.begin_move_to(shape, epoch_ns)
    }

    /// Begins to move all entries to a new table with a later epoch, if the clock of this one is
    /// half over. Returns whether that is so.
    ///
    /// # Errors
    /// Another move is under way.
    pub fn renew_clock(&mut self, now_ns: u64) -> Result<bool, MoveError> {
        let Some(shift) = Shift::due(now_ns) else { return Ok(false) };
        let epoch_ns = self.current().writer().geometry().identity().epoch_ns;
        self.begin_move_to(&self.plan(), epoch_ns.wrapping_add(shift.ns())).map(|()| true)
    }

    fn begin_move_to(&mut self, shape: &Plan, epoch_ns: u64) -> Result<(), MoveError> {
        if let Some(progress) = self.progress() {
            return Err(MoveError::UnderWay { bytes: progress.to_bytes });
        }
        let old = *self.current().writer().geometry().identity();
        let geometry = Geometry::plan(&Plan {
            table_id: random(&self.options.directory)?,
            // So that reported hashes mean the same in both tables.
            hash_seed: old.hash_seed,
            boot_id: old.boot_id,
            epoch_ns,
            table_bytes: self.directory.whole_pages(shape.table_bytes),
            ..*shape
        })?;
        let new = geometry.identity();
        let shape = |of: &Identity| {
            (of.table_bytes, of.bucket_count, of.segment_bytes, of.value_bytes_max, of.epoch_ns)
        };
        if shape(new) == shape(&old) {
            let buckets = geometry.bucket_count();
            return Err(MoveError::SameShape { bytes: new.table_bytes, buckets });
        }
        let most = Most::of(&geometry, geometry.segment_count() as usize);
        let now = tick(self.clock_ns());
        let pins = &mut self.current.table.pins;
        pins.pass(now);
        if !pins.fit(most) {
            let (held_bytes, held) = pins.held();
            return Err(MoveError::Pinned {
                bytes: new.table_bytes,
                held_bytes,
                held,
                most_bytes: most.bytes(),
                most: most.entries(),
            });
        }
        let (directory, options, bytes) =
            (self.directory.clone(), self.options.clone(), new.table_bytes);
        let made = thread::Builder::new()
            .name("l1d-new-table".into())
            .spawn(move || directory.create(bytes, bytes, &options))
            .map_err(|source| {
                system("cannot start a thread for", &self.options.directory, source)
            })?;
        self.current.table.pins.set_most_in_successor(Some(most));
        self.successor = Some(Successor::Making { geometry: Box::new(geometry), made });
        Ok(())
    }

    /// The plan of the table in force, except for its index.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let table_bytes = self.current().writer().geometry().identity().table_bytes;
        Plan { table_bytes, ..self.options.plan }
    }

    /// The progress of the move under way, if any.
    #[must_use]
    pub fn progress(&self) -> Option<Move> {
        let (to, buckets_copied) = match self.successor.as_ref()? {
            Successor::Making { geometry, .. } => (&**geometry, 0),
            Successor::Filling { opened, bucket } => (opened.table.writer().geometry(), *bucket),
        };
        let from = self.current().writer().geometry();
        Some(Move {
            from_bytes: from.identity().table_bytes,
            to_bytes: to.identity().table_bytes,
            buckets_copied,
            buckets: from.bucket_count(),
        })
    }

    /// Continues a move for about `time`.
    pub fn step(&mut self, now_ns: u64, time: Duration) -> Step {
        match self.successor.take() {
            None => Step::Idle,
            Some(Successor::Making { geometry, made }) if !made.is_finished() => {
                self.successor = Some(Successor::Making { geometry, made });
                Step::Waiting
            }
            Some(Successor::Making { geometry, made }) => match made.join() {
                Ok(Ok(file)) if !self.current.table.pins.fit_successor() => {
                    drop(file);
                    self.give_up()
                }
                Ok(Ok(file)) => {
                    let all = geometry.segment_count();
                    let mut opened = Box::new(Opened::create(file, *geometry, all));
                    opened.table.inherit(self.current());
                    self.successor = Some(Successor::Filling { opened, bucket: 0 });
                    self.rewrite_numbers();
                    Step::More
                }
                Ok(Err(error)) => self.stay(error.into()),
                Err(_) => self.stay(MoveError::Abandoned),
            },
            Some(Successor::Filling { opened, .. }) if !self.current.table.pins.fit_successor() => {
                drop(opened);
                self.give_up()
            }
            Some(Successor::Filling { mut opened, bucket }) => {
                let began = Instant::now();
                let next = self
                    .current
                    .table
                    .carry(&mut opened.table, bucket, now_ns, || began.elapsed() < time);
                match next {
                    Ok(Some(bucket)) => {
                        self.successor = Some(Successor::Filling { opened, bucket });
                        Step::More
                    }
                    Ok(None) => match self.succeed(*opened) {
                        Ok(()) => Step::Ended(Ok(())),
                        Err(error) => self.stay(error),
                    },
                    Err(error) => {
                        drop(opened);
                        self.directory.remove_unfinished();
                        self.stay(MoveError::NoRoom(error))
                    }
                }
            }
        }
    }

    /// Since the move began, a policy has come into force under which more is never evicted than the
    /// new table can hold.
    fn give_up(&mut self) -> Step {
        self.directory.remove_unfinished();
        self.stay(MoveError::NoRoom(PutError::Full(Full::Table)))
    }

    /// The move has failed.
    fn stay(&mut self, error: MoveError) -> Step {
        self.current.table.carried = 0;
        self.current.table.pins.set_most_in_successor(None);
        Step::Ended(Err(error))
    }

    /// W11, the end: the successor takes the table's place.
    fn succeed(&mut self, mut successor: Opened) -> Result<(), MoveError> {
        successor.table.succeed(&self.current.table);
        fault_point!("succeed.serving");
        successor.table.writer().open_for_readers();
        fault_point!("succeed.supersede");
        self.current.table.writer().supersede();
        fault_point!("succeed.publish");
        if let Err(error) = self.directory.publish() {
            // Nothing was acknowledged in the successor alone.
            fault_point!("succeed.failed");
            self.current.table.writer().open_for_readers();
            self.directory.remove_unfinished();
            return Err(error.into());
        }
        if !Shift::between(&self.current.table, &successor.table).is_none() {
            // It knows expiries by their former numbers.
            self.advisor.flushed();
        }
        let former = std::mem::replace(&mut self.current, successor);
        self.preparation = Preparation::of(&self.current);
        // Unmapping a large table takes long, so another thread does it. If no thread can be
        // started, the closure and the table are dropped here.
        let _ = thread::Builder::new().name("l1d-old-table".into()).spawn(move || drop(former));
        Ok(())
    }
}
