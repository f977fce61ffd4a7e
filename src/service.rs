//! The mail of the service thread. One task owns the service thread's end of the queues. The main thread and the admin pages
//! speak to the shards through that task.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio_uring::fs::File;

use crate::ids::{Party, RequestNumber};
use crate::impossible;
use crate::limits::{ERRANDS_MAX, LETTERS_READ_MAX, QUESTIONS_MAX};
use crate::mailbox::{Endpoint, Letter, New, Posted};
use crate::shard::peer::{Answer, Order, PeerMessage, Question};
use crate::shard::questions::{Closed, Questions};
use crate::time::Instant;

/// Reads the monotonic clock.
pub type ReadClock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// What the tasks of the service thread run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// `tokio-uring`.
    IoUring,
    /// Plain `tokio`, where a ring may be refused.
    Epoll,
}

impl Runtime {
    /// Runs a task and what it spawns locally on the calling thread, until the task ends.
    pub fn run<T>(self, task: impl Future<Output = T>) -> io::Result<T> {
        match self {
            Self::IoUring => Ok(tokio_uring::start(task)),
            Self::Epoll => {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                Ok(LocalSet::new().block_on(&runtime, task))
            }
        }
    }
}

/// The task that owns the service thread's mail.
pub struct Service {
    mailbox: Endpoint,
    errands: mpsc::Receiver<Errand>,
    questions: Questions<Asker>,
    clock: ReadClock,
}

/// Gives the task something to do, from any thread.
#[derive(Clone, Debug)]
pub struct ServiceHandle(mpsc::Sender<Errand>);

/// The answers of all that were asked one question.
#[derive(Debug)]
pub struct Answers {
    /// One answer of each that has answered, in any order.
    pub answers: Vec<Answer>,
    /// How many have not answered, not counting shards that have ended.
    pub unanswered: u32,
}

/// Too many orders and questions wait already, so this one was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many orders and questions to the shards wait already")]
pub struct Busy;

/// Work for the task.
#[derive(Debug)]
enum Errand {
    /// Have every shard drain, and the store.
    Drain,
    /// Give every shard what is used from now on.
    Renew { new: New, wait: Duration, asker: Asker },
    /// Ask every shard, or the store.
    Ask { question: Question, wait: Duration, asker: Asker },
}

/// One who waits for answers, and those that have come.
#[derive(Debug)]
struct Asker {
    answers: Vec<Answer>,
    reply: oneshot::Sender<Result<Answers, Busy>>,
}

impl ServiceHandle {
    /// Has every shard drain, and the store. The log names those that could not be told.
    pub fn drain(&self) -> Result<(), Busy> {
        self.0.try_send(Errand::Drain).map_err(|_| Busy)
    }

    /// Gives every shard what is used from now on, and waits until each has said that it uses it or has ended, or `wait` is over.
    pub async fn renew(&self, new: New, wait: Duration) -> Result<Answers, Busy> {
        self.gather(|asker| Errand::Renew { new, wait, asker }).await
    }

    /// Asks every shard, or the store if it is about what is kept there, and waits until each has answered or ended, or `wait` is
    /// over.
    pub async fn ask(&self, question: Question, wait: Duration) -> Result<Answers, Busy> {
        self.gather(|asker| Errand::Ask { question, wait, asker }).await
    }

    async fn gather(&self, errand: impl FnOnce(Asker) -> Errand) -> Result<Answers, Busy> {
        let (reply, answers) = oneshot::channel();
        self.0.try_send(errand(Asker { answers: Vec::new(), reply })).map_err(|_| Busy)?;
        answers.await.unwrap_or(Err(Busy))
    }
}

impl Service {
    /// Makes the task, which is still to be run, and the handle to it.
    pub fn new(mailbox: Endpoint, clock: ReadClock) -> (Self, ServiceHandle) {
        let (sender, errands) = mpsc::channel(ERRANDS_MAX);
        (
            Self { mailbox, errands, questions: Questions::at_most(QUESTIONS_MAX), clock },
            ServiceHandle(sender),
        )
    }

    /// Reads mail and runs errands, for ever. `runtime`: what it runs on.
    pub async fn run(mut self, runtime: Runtime) -> io::Result<Infallible> {
        let wakes = Wakes::new(runtime, self.mailbox.eventfd().try_clone()?)?;
        // A read is never dropped before it has an outcome: it could have taken a wake with it.
        let mut woken = pin!(wakes.next());
        loop {
            self.turn();
            let deadline = self.questions.deadline().map(|deadline| deadline.since((self.clock)()));
            tokio::select! {
                Some(errand) = self.errands.recv() => self.run_errand(errand),
                outcome = &mut woken => {
                    outcome?;
                    woken.set(wakes.next());
                }
                () = tokio::time::sleep(deadline.unwrap_or_default()), if deadline.is_some() => {}
                () = tokio::task::yield_now(), if self.mailbox.has_mail() => {}
            }
        }
    }

    /// Runs the errands that wait, reads mail, and closes questions whose time is over.
    pub fn turn(&mut self) {
        while let Ok(errand) = self.errands.try_recv() {
            self.run_errand(errand);
        }
        for _ in 0..LETTERS_READ_MAX {
            let Some((from, letter)) = self.mailbox.take() else { break };
            match letter {
                Letter::Peer(PeerMessage::Answer { request, answer }) => self.answered(from, request, answer),
                Letter::Peer(PeerMessage::Ask { .. } | PeerMessage::Request(_) | PeerMessage::Deliver(_))
                | Letter::Order(_)
                | Letter::Renewal { .. }
                | Letter::Connection { .. }
                | Letter::Withdrawn { .. } => impossible!("the service thread is told answers only"),
            }
        }
        self.pass_over_the_ended();
        self.questions.expire((self.clock)()).into_iter().for_each(reply);
    }

    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Drain => {
                for party in self.all_shards().into_iter().chain([Party::Store]) {
                    if !self.post(party, Letter::Order(Order::Drain)) {
                        tracing::warn!(?party, "it cannot be told to drain: its mailbox is full");
                    }
                }
            }
            Errand::Renew { new, wait, asker } => {
                let letter = |request| Letter::Renewal { request, new: new.clone() };
                self.ask(self.all_shards(), letter, wait, asker);
            }
            Errand::Ask { question, wait, asker } => {
                let ask = |request| PeerMessage::Ask { request, question: question.clone() };
                self.ask(self.asked_about(&question), |request| Letter::Peer(ask(request)), wait, asker);
            }
        }
    }

    /// Gives each of `parties` a letter that is answered with its number.
    fn ask(
        &mut self,
        parties: Vec<Party>,
        letter: impl Fn(RequestNumber) -> Letter,
        wait: Duration,
        asker: Asker,
    ) {
        let deadline = (self.clock)() + wait;
        let request = match self.questions.ask(asker, parties.iter().copied(), deadline) {
            Ok(request) => request,
            Err(asker) => {
                // Whoever asked may have gone.
                let _ = asker.reply.send(Err(Busy));
                return;
            }
        };
        for party in parties {
            if !self.post(party, letter(request)) {
                self.questions.not_reached(party, request).into_iter().for_each(reply);
            }
        }
    }

    fn answered(&mut self, from: Party, request: RequestNumber, answer: Answer) {
        let closed = match answer {
            Answer::Busy => self.questions.not_reached(from, request),
            answer @ (Answer::Kicked { .. }
            | Answer::Games(_)
            | Answer::Looked
            | Answer::Renewed
            | Answer::Store(_)) => self.questions.answered(from, request, |asker| asker.answers.push(answer)),
        };
        closed.into_iter().for_each(reply);
    }

    /// Stops waiting for shards that have ended. A shard wakes this task when it ends.
    fn pass_over_the_ended(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        for shard in self.all_shards() {
            if self.mailbox.is_gone(shard) && self.questions.wait_for(shard) {
                self.questions.ended(shard).into_iter().for_each(reply);
            }
        }
    }

    /// Returns false if the mailbox is full. To post to one that has ended succeeds, because it need know nothing more.
    fn post(&mut self, shard: Party, letter: Letter) -> bool {
        match self.mailbox.post(shard, letter) {
            Posted::Queued => {
                if self.mailbox.must_ring(shard) {
                    self.mailbox.wake(shard);
                }
                true
            }
            Posted::Refused(_) => self.mailbox.is_gone(shard),
        }
    }

    fn asked_about(&self, question: &Question) -> Vec<Party> {
        match question {
            Question::Store(_) => vec![Party::Store],
            Question::Kick { .. } | Question::Games | Question::LookAgain { .. } => self.all_shards(),
        }
    }

    fn all_shards(&self) -> Vec<Party> {
        let parties = self.mailbox.parties().iter().copied();
        parties.filter(|party| matches!(party, Party::Shard(_))).collect()
    }
}

/// The eventfd by which others wake the task, read by what the runtime has for it.
enum Wakes {
    IoUring(File),
    /// A receiver of a pipe reads any descriptor that it is given.
    Epoll(Receiver),
}

impl Wakes {
    fn new(runtime: Runtime, eventfd: OwnedFd) -> io::Result<Self> {
        Ok(match runtime {
            Runtime::IoUring => Self::IoUring(File::from_std(eventfd.into())),
            Runtime::Epoll => {
                rustix::io::ioctl_fionbio(&eventfd, true)?;
                Self::Epoll(Receiver::from_owned_fd_unchecked(eventfd)?)
            }
        })
    }

    /// Waits until somebody has written to the eventfd.
    async fn next(&self) -> io::Result<()> {
        match self {
            Self::IoUring(eventfd) => eventfd.read_at(Vec::with_capacity(8), 0).await.0.map(drop),
            Self::Epoll(eventfd) => loop {
                eventfd.readable().await?;
                match eventfd.try_read(&mut [0; 8]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    outcome => return outcome.map(drop),
                }
            },
        }
    }
}

/// Gives the asker its answers. If it has gone, nobody wants them.
fn reply(closed: Closed<Asker>) {
    let Closed { waiter: Asker { answers, reply }, unanswered } = closed;
    let _ = reply.send(Ok(Answers { answers, unanswered }));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::limits::MAILBOX_LETTERS_MAX;
    use crate::mailbox;

    const WAIT: Duration = Duration::from_secs(2);

    /// A service thread that turns when the test says so, and the ends of two shards.
    struct Rig {
        service: Service,
        handle: ServiceHandle,
        now_us: Arc<AtomicU64>,
        shards: Vec<Endpoint>,
        /// The store's end, which would wake everybody if it went.
        _store: Endpoint,
    }

    impl Rig {
        fn new() -> Self {
            let (shards, [mailbox, store]) = mailbox::mesh(2, 16).unwrap();
            let now_us = Arc::new(AtomicU64::new(0));
            let clock_us = now_us.clone();
            let clock = move || Instant::from_micros(clock_us.load(Ordering::Relaxed));
            let (service, handle) = Service::new(mailbox, Arc::new(clock));
            Self { service, handle, now_us, shards, _store: store }
        }

        /// Asks for a kick, and returns where the answers come.
        fn kick(&mut self) -> oneshot::Receiver<Result<Answers, Busy>> {
            let (reply, answers) = oneshot::channel();
            let asker = Asker { answers: Vec::new(), reply };
            let question = Question::Kick { user: "ann".into() };
            self.handle.0.try_send(Errand::Ask { question, wait: WAIT, asker }).unwrap();
            self.service.turn();
            answers
        }

        /// The question that a shard finds next in its mailbox.
        fn asked(&mut self, shard: usize) -> RequestNumber {
            match self.shards[shard].take() {
                Some((Party::Service, Letter::Peer(PeerMessage::Ask { request, question }))) => {
                    assert!(matches!(question, Question::Kick { user } if &*user == "ann"));
                    request
                }
                other => panic!("{other:?}"),
            }
        }

        fn answer(&mut self, shard: usize, request: RequestNumber, answer: Answer) {
            let letter = Letter::Peer(PeerMessage::Answer { request, answer });
            assert!(matches!(self.shards[shard].post(Party::Service, letter), Posted::Queued));
            let _rung = self.shards[shard].must_ring(Party::Service);
        }
    }

    fn kicked(disconnected: u32) -> Answer {
        Answer::Kicked { disconnected }
    }

    fn answers(answers: &mut oneshot::Receiver<Result<Answers, Busy>>) -> Option<(Vec<Answer>, u32)> {
        let answers = answers.try_recv().ok()?.unwrap();
        Some((answers.answers, answers.unanswered))
    }

    #[test]
    fn the_answers_of_all_shards_are_gathered() {
        let mut rig = Rig::new();
        let mut waiting = [rig.kick(), rig.kick()];
        for (number, shard) in [(0, 1), (0, 0), (1, 0), (1, 1)] {
            assert!(answers(&mut waiting[number]).is_none());
            let request = rig.asked(shard);
            rig.answer(shard, request, kicked(10 * number as u32 + shard as u32));
            rig.service.turn();
        }
        assert_eq!(answers(&mut waiting[0]), Some((vec![kicked(1), kicked(0)], 0)));
        assert_eq!(answers(&mut waiting[1]), Some((vec![kicked(10), kicked(11)], 0)));
    }

    #[test]
    fn nobody_waits_for_a_shard_that_has_ended_or_is_busy_or_for_longer_than_was_said() {
        let mut rig = Rig::new();
        let mut waiting = [rig.kick(), rig.kick()];
        let requests = [(); 2].map(|()| rig.asked(0));
        rig.answer(0, requests[0], kicked(1));
        rig.answer(0, requests[1], Answer::Busy);
        rig.service.turn();
        assert!(waiting.iter_mut().all(|waiting| answers(waiting).is_none()));
        let request = rig.asked(1);
        rig.answer(1, request, kicked(7));
        rig.shards.truncate(1);
        rig.service.turn();
        assert_eq!(answers(&mut waiting[0]), Some((vec![kicked(1), kicked(7)], 0)), "it answered before");
        assert_eq!(answers(&mut waiting[1]), Some((vec![], 1)));

        let mut waiting = rig.kick();
        rig.now_us.store(WAIT.as_micros() as u64 - 1, Ordering::Relaxed);
        rig.service.turn();
        assert!(answers(&mut waiting).is_none());
        rig.now_us.store(WAIT.as_micros() as u64, Ordering::Relaxed);
        rig.service.turn();
        assert_eq!(answers(&mut waiting), Some((vec![], 1)), "the one that has ended is not missed");
        let late = rig.asked(0);
        rig.answer(0, late, kicked(1));
        rig.service.turn();
    }

    #[test]
    fn one_question_too_many_is_refused_and_a_full_mailbox_is_an_answer() {
        let mut rig = Rig::new();
        let _waiting: Vec<_> = (0..QUESTIONS_MAX).map(|_| rig.kick()).collect();
        assert!(matches!(rig.kick().try_recv(), Ok(Err(Busy))));
        rig.now_us.store(WAIT.as_micros() as u64, Ordering::Relaxed);
        for _ in QUESTIONS_MAX..MAILBOX_LETTERS_MAX {
            rig.handle.drain().unwrap();
            rig.service.turn();
        }
        let mut waiting = rig.kick();
        assert_eq!(answers(&mut waiting), Some((vec![], 2)), "both mailboxes are full");
    }

    #[test]
    fn the_order_to_drain_reaches_every_shard_that_is_there_and_one_too_many_is_refused() {
        let mut rig = Rig::new();
        rig.shards.remove(0);
        for _ in 0..ERRANDS_MAX {
            rig.handle.drain().unwrap();
        }
        assert_eq!(rig.handle.drain(), Err(Busy));
        rig.service.turn();
        let taken: Vec<_> = std::iter::from_fn(|| rig.shards[0].take()).collect();
        assert_eq!(taken.len(), ERRANDS_MAX);
        assert!(taken.iter().all(|(from, letter)| {
            *from == Party::Service && matches!(letter, Letter::Order(Order::Drain))
        }));
    }

    #[test]
    fn a_shard_wakes_the_task_again_and_again() {
        wakes_again_and_again(Runtime::IoUring);
        wakes_again_and_again(Runtime::Epoll);
    }

    fn wakes_again_and_again(runtime: Runtime) {
        let Rig { service, handle, mut shards, _store, .. } = Rig::new();
        let shard = std::thread::spawn(move || {
            for round in 0..3 {
                for shard in &mut shards {
                    let mut count = [0; 8];
                    rustix::io::read(&*shard.eventfd(), &mut count).unwrap();
                    let Some((_, Letter::Peer(PeerMessage::Ask { request, .. }))) = shard.take() else {
                        panic!("no question in round {round}");
                    };
                    let letter = Letter::Peer(PeerMessage::Answer { request, answer: kicked(round) });
                    assert!(matches!(shard.post(Party::Service, letter), Posted::Queued));
                    if shard.must_ring(Party::Service) {
                        shard.wake(Party::Service);
                    }
                }
            }
        });
        let asks = runtime.run(async move {
            tokio::task::spawn_local(async move { service.run(runtime).await.map(|never| match never {}) });
            for round in 0..3 {
                let question = Question::Kick { user: "ann".into() };
                let answers = handle.ask(question, WAIT).await.unwrap();
                assert_eq!((answers.answers, answers.unanswered), (vec![kicked(round); 2], 0));
            }
        });
        asks.unwrap();
        shard.join().unwrap();
    }
}
