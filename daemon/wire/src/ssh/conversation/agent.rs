//! What comes from the agent's client.

use bytes::Bytes;

use super::{
    super::{
        codec::Reader,
        message::{
            self, Asked, CLOSE, DATA, EOF, EXTENDED_DATA, FAILURE, GLOBAL_REQUEST, OPEN,
            OPEN_CONFIRMATION, OPEN_FAILURE, Opened, REQUEST, REQUEST_FAILURE, REQUEST_SUCCESS,
            SUCCESS, WINDOW_ADJUST,
        },
    },
    Action, Ask, CHANNELS, Channel, Conversation, Inner, Listening, MESSAGE, Pending, Place,
    Stream, Terminal, UNANSWERED, Violation, WAITING, WINDOW_OF_CONFIRMATION, Wanted,
    channel::Reading,
    clamped,
    flow::Flow,
    scp, sftp, window_of_open,
};

impl Conversation {
    pub(super) fn hear_agent(&mut self, payload: Bytes) -> Result<(), Violation> {
        let mut read = Reader::new(&payload);
        let number = read.u8()?;
        match number {
            GLOBAL_REQUEST if self.deciding.is_some() => {
                self.deferred_cost += payload.len() + MESSAGE;
                if self.deferred_cost > WAITING {
                    return Err(Violation::TooMany("requests at a time"));
                }
                self.deferred.push_back(payload);
                Ok(())
            }
            GLOBAL_REQUEST => self.connection_request(payload),
            REQUEST_SUCCESS | REQUEST_FAILURE => {
                // Nobody else's questions passed.
                if self.owed_to_target > 0 {
                    self.owed_to_target -= 1;
                    self.actions.push(Action::ToTarget(payload));
                }
                Ok(())
            }
            OPEN => self.open(&payload),
            OPEN_CONFIRMATION..=FAILURE => {
                let recipient = read.u32()?;
                if self.is_own_of_agent(recipient) {
                    return self.hear_own(number, recipient, &payload);
                }
                let Some(&key) = self.by_target.get(&recipient) else {
                    return Err(Violation::NoChannel(recipient));
                };
                self.on_channel(number, key, recipient, payload)?;
                self.remove_closed(key);
                Ok(())
            }
            number => Err(Violation::Misplaced { number, place: "between channels" }),
        }
    }

    /// A request of the whole connection.
    pub(super) fn connection_request(&mut self, payload: Bytes) -> Result<(), Violation> {
        let mut asked = Asked::read(Reader::new(payload.get(1..).unwrap_or_default()))?;
        let wants_reply = asked.wants_reply;
        let place = asked.body.rest().to_vec();
        let (wanted, listens) = match asked.kind {
            b"tcpip-forward" => {
                let address = String::from_utf8_lossy(asked.body.string()?).into_owned();
                (Wanted::Listen { address, port: asked.body.u32()? }, Listening::Tcp(place))
            }
            b"streamlocal-forward@openssh.com" => {
                let path = asked.body.string()?.to_vec();
                (Wanted::ListenSocket { path }, Listening::Socket(place))
            }
            b"cancel-tcpip-forward"
            | b"cancel-streamlocal-forward@openssh.com"
            | b"keepalive@openssh.com"
            | b"no-more-sessions@openssh.com" => {
                if asked.kind == b"cancel-tcpip-forward" {
                    self.cancelled(&Listening::Tcp(place));
                } else if asked.kind == b"cancel-streamlocal-forward@openssh.com" {
                    self.cancelled(&Listening::Socket(place));
                }
                if self.replies.len() > UNANSWERED {
                    return Err(Violation::TooMany("requests without an answer"));
                }
                if wants_reply {
                    self.replies.theirs(None);
                }
                self.actions.push(Action::ToTarget(payload));
                return Ok(());
            }
            other => {
                let what = format!("request {}", super::super::shown(other));
                self.actions.push(Action::Unknown { what });
                self.answer_connection(wants_reply);
                return Ok(());
            }
        };
        let number = self.new_ask();
        self.asks.insert(number, Place::Connection);
        self.deciding = Some((listens, payload, wants_reply));
        self.ask(number, wanted, None, None);
        Ok(())
    }

    fn ask(
        &mut self,
        number: u64,
        wanted: Wanted,
        objection: Option<&'static str>,
        key: Option<u32>,
    ) {
        let channel = key.and_then(|key| self.channels.get(&key));
        self.actions.push(Action::Ask(Box::new(Ask {
            number,
            wanted,
            objection,
            terminal: channel.and_then(|channel| channel.terminal.clone()),
            environment: channel.map_or_else(Vec::new, |channel| channel.environment.clone()),
        })));
    }

    /// A channel is to be opened.
    fn open(&mut self, payload: &Bytes) -> Result<(), Violation> {
        let mut opened = Opened::read(Reader::new(payload.get(1..).unwrap_or_default()))?;
        let sender = opened.sender;
        self.takes(sender)?;
        let said = clamped(payload, opened.window, window_of_open(opened.kind));
        let wanted = match opened.kind {
            b"session" => None,
            b"direct-tcpip" => {
                let host = String::from_utf8_lossy(opened.body.string()?).into_owned();
                Some(Wanted::Forward { host, port: opened.body.u32()? })
            }
            b"direct-streamlocal@openssh.com" => {
                Some(Wanted::ForwardSocket { path: opened.body.string()?.to_vec() })
            }
            other => {
                let what = format!("a channel of kind {}", super::super::shown(other));
                self.actions.push(Action::Unknown { what });
                let why = "chaperone knows no such channel";
                let failure = message::open_failure(sender, why);
                self.actions.push(Action::ToAgent(failure.into()));
                return Ok(());
            }
        };
        if self.channels.len() >= CHANNELS {
            let why = "chaperone opens no more channels on this connection";
            self.actions.push(Action::ToAgent(message::open_failure(sender, why).into()));
            return Ok(());
        }
        let mut channel = Channel::new();
        channel.agent = Some(sender);
        channel.down = Some(Flow::new(sender, opened.window, opened.packet));
        let key = self.insert(channel);
        self.by_agent.insert(sender, key);
        match wanted {
            None => self.actions.push(Action::ToTarget(said)),
            Some(wanted) => {
                let number = self.new_ask();
                self.asks.insert(number, Place::Channel(key));
                if let Some(channel) = self.channels.get_mut(&key) {
                    channel.ask = Some(number);
                    channel.pending = Some(Pending::Open(said));
                }
                self.ask(number, wanted, None, None);
            }
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, mut channel: Channel) -> u32 {
        while self.channels.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let key = self.next;
        // Not another's soon.
        self.next = key.wrapping_add(1);
        channel.key = key;
        self.channels.insert(key, channel);
        key
    }

    fn on_channel(
        &mut self,
        number: u8,
        key: u32,
        recipient: u32,
        payload: Bytes,
    ) -> Result<(), Violation> {
        if number == OPEN_CONFIRMATION {
            self.takes(Reader::new(payload.get(5..).unwrap_or_default()).u32()?)?;
        }
        let Some(channel) = self.channels.get_mut(&key) else { return Ok(()) };
        let actions = &mut self.actions;
        let mut read = Reader::new(payload.get(5..).unwrap_or_default());
        if channel.agent_closed {
            return Err(Violation::NoChannel(recipient));
        }
        match number {
            OPEN_CONFIRMATION if channel.agent.is_none() => {
                let (sender, window, packet) = (read.u32()?, read.u32()?, read.u32()?);
                channel.agent = Some(sender);
                channel.down = Some(Flow::new(sender, window, packet));
                self.by_agent.insert(sender, key);
                let said = clamped(&payload, window, WINDOW_OF_CONFIRMATION);
                actions.push(Action::ToTarget(said));
            }
            OPEN_FAILURE if channel.agent.is_none() => {
                actions.push(Action::ToTarget(payload));
                (channel.agent_closed, channel.target_closed) = (true, true);
            }
            // It cannot know the channel yet.
            _ if channel.agent.is_none() || channel.up.is_none() => {
                return Err(Violation::NoChannel(recipient));
            }
            WINDOW_ADJUST => {
                let mut out = Vec::new();
                if let Some(down) = &mut channel.down {
                    down.adjusted(read.u32()?, &mut out);
                }
                actions.extend(out.into_iter().map(Action::ToAgent));
                channel.grant(actions);
                // What waited for the client to read its answers is looked at.
                if matches!(channel.reading, Reading::Sftp(_)) && channel.up_waits {
                    self.read_inside(key)?;
                    self.pump(key)?;
                }
            }
            SUCCESS | FAILURE => channel.tell_target(payload, actions),
            DATA | EXTENDED_DATA => {
                let length = read_data(&payload)?.1.len();
                // It costs no window, and says nothing.
                if length == 0 {
                    return Ok(());
                }
                if let Some(up) = &mut channel.up {
                    up.received(length, recipient)?;
                }
                // This side has closed it: nobody reads this.
                if !channel.told_agent {
                    channel.deferred_bytes += length;
                    channel.defer(MESSAGE, payload)?;
                    self.pump(key)?;
                }
            }
            CLOSE => {
                channel.agent_closed = true;
                channel.forget_deferred();
                channel.pending = None;
                if let Some(ask) = channel.ask.take() {
                    self.asks.remove(&ask);
                    actions.push(Action::Withdrawn { ask });
                }
                // Nobody takes data any more, and what else there is does not wait for them.
                let mut out = Vec::new();
                if let Some(down) = &mut channel.down {
                    down.end(&mut out);
                }
                actions.extend(out.into_iter().map(Action::ToAgent));
                channel.close_target(actions);
                // How its program ended may still be on its way from the target, which answers with a
                // close of its own.
                if channel.target_closed {
                    channel.close_agent(actions);
                }
            }
            EOF | REQUEST if channel.told_agent => {}
            EOF | REQUEST => {
                channel.defer(payload.len() + MESSAGE, payload)?;
                self.pump(key)?;
            }
            number => return Err(Violation::Misplaced { number, place: "on a channel" }),
        }
        Ok(())
    }

    /// Lets go on what does not wait.
    pub(super) fn pump(&mut self, key: u32) -> Result<(), Violation> {
        loop {
            let Some(channel) = self.channels.get_mut(&key) else { return Ok(()) };
            if channel.pending.is_some() {
                break;
            }
            let Some(front) = channel.deferred.front() else { break };
            let number = front.first().copied().unwrap_or(0);
            // What the protocol inside has not let go on comes first.
            if channel.up_waits && !matches!(number, REQUEST) {
                break;
            }
            let Some(payload) = channel.deferred.pop_front() else { break };
            match number {
                DATA | EXTENDED_DATA => {
                    let (extended, bytes) = read_data(&payload)?;
                    channel.deferred_bytes -= bytes.len();
                    channel.deferred_cost -= MESSAGE;
                    if extended.is_none() && !matches!(channel.reading, Reading::Plain) {
                        channel.read_up(bytes);
                        self.read_inside(key)?;
                        continue;
                    }
                    let mut out = Vec::new();
                    if let Some(up) = &mut channel.up {
                        up.data(extended, &bytes, Some(&payload), &mut out);
                    }
                    self.actions.extend(out.into_iter().map(Action::ToTarget));
                    if let Some(command) = channel.command {
                        let (channel, stream) = (key, Stream::In);
                        self.actions.push(Action::Passed { command, channel, stream, bytes });
                    }
                }
                _ => {
                    channel.deferred_cost -= payload.len() + MESSAGE;
                    if number == EOF {
                        channel.tell_target(payload, &mut self.actions);
                    } else {
                        self.request(key, payload)?;
                    }
                }
            }
        }
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.grant(&mut self.actions);
        }
        Ok(())
    }

    /// A request on a channel.
    fn request(&mut self, key: u32, payload: Bytes) -> Result<(), Violation> {
        let mut asked = Asked::read(Reader::new(payload.get(5..).unwrap_or_default()))?;
        let wants_reply = asked.wants_reply;
        let number = self.asked + 1;
        let Some(channel) = self.channels.get_mut(&key) else { return Ok(()) };
        let mut ask = None;
        match asked.kind {
            b"exec" | b"shell" | b"subsystem" => {
                let name = if asked.kind == b"shell" { &[][..] } else { asked.body.string()? };
                let objection = if channel.started {
                    Some("this channel runs something already\n")
                } else if asked.kind == b"subsystem"
                    && name == b"sftp"
                    && channel.terminal.is_some()
                {
                    // A terminal swallows and alters bytes: what arrives is not what was read.
                    Some("chaperone does not let SFTP be spoken through a terminal\n")
                } else {
                    None
                };
                ask = Channel::start_of(asked.kind, name).map(|wanted| (wanted, objection));
                channel.pending = Some(Pending::Start(payload.clone(), wants_reply));
            }
            b"x11-req" | b"auth-agent-req@openssh.com" => {
                let (wanted, opens) = if asked.kind == b"x11-req" {
                    (Wanted::X11, Listening::X11)
                } else {
                    (Wanted::AgentForward, Listening::Agent)
                };
                ask = Some((wanted, None));
                channel.pending = Some(Pending::Request(payload.clone(), wants_reply, opens));
            }
            // What it runs has been decided without them.
            b"pty-req" | b"env" if channel.started => {
                channel.answer(FAILURE, wants_reply, &mut self.actions);
                return Ok(());
            }
            b"pty-req" => {
                let kind = String::from_utf8_lossy(asked.body.string()?).chars().take(64).collect();
                let (columns, rows) = (asked.body.u32()?, asked.body.u32()?);
                channel.terminal = Some(Terminal { kind, columns, rows });
            }
            b"env" => {
                let (name, value) = (asked.body.string()?, asked.body.string()?);
                if !channel.keep_variable(name, value) {
                    let what = "a variable beyond the first 64 KiB of them".into();
                    self.actions.push(Action::Unknown { what });
                    channel.answer(FAILURE, wants_reply, &mut self.actions);
                    return Ok(());
                }
            }
            b"window-change" => {
                let (columns, rows) = (asked.body.u32()?, asked.body.u32()?);
                if let Some(terminal) = &mut channel.terminal {
                    (terminal.columns, terminal.rows) = (columns, rows);
                }
                if let Some(command) = channel.command {
                    self.actions.push(Action::Resized { command, columns, rows });
                }
            }
            b"signal" | b"break" | b"eow@openssh.com" | b"keepalive@openssh.com" => {}
            other => {
                let what = format!("request {} on a channel", super::super::shown(other));
                self.actions.push(Action::Unknown { what });
                channel.answer(FAILURE, wants_reply, &mut self.actions);
                return Ok(());
            }
        }
        if let Some((wanted, objection)) = ask {
            channel.ask = Some(number);
            self.asked = number;
            self.asks.insert(number, Place::Channel(key));
            self.ask(number, wanted, objection, Some(key));
            return Ok(());
        }
        if wants_reply {
            channel.replies.theirs(None);
        }
        if channel.floods() {
            return Err(Violation::TooMany("requests whose answers are not read"));
        }
        channel.tell_target(payload, &mut self.actions);
        Ok(())
    }

    pub(super) fn allowed_on(&mut self, key: u32, ask: u64, inner: Inner) -> Result<(), Violation> {
        let Some(channel) = self.channels.get_mut(&key) else { return Ok(()) };
        channel.ask = None;
        match channel.pending.take() {
            None => {}
            Some(Pending::Open(payload)) => {
                channel.command = Some(ask);
                self.actions.push(Action::ToTarget(payload));
            }
            Some(Pending::Start(payload, wants_reply)) => {
                (channel.command, channel.started) = (Some(ask), true);
                let by = channel.cover.clone();
                channel.reading = match inner {
                    Inner::Plain => Reading::Plain,
                    Inner::Sftp => {
                        let mut sftp = sftp::Sftp::new();
                        if let Some(by) = by {
                            sftp.cover(by);
                        }
                        Reading::Sftp(Box::new(sftp))
                    }
                    Inner::Scp(direction) => Reading::Scp(Box::new(scp::Scp::new(direction, by))),
                };
                if wants_reply {
                    channel.replies.theirs(Some(ask));
                }
                channel.tell_target(payload, &mut self.actions);
            }
            Some(Pending::Request(payload, wants_reply, opens)) => {
                if wants_reply {
                    channel.replies.theirs(Some(ask));
                }
                channel.tell_target(payload, &mut self.actions);
                self.listening.push((opens, ask));
            }
            Some(Pending::Up(length)) => {
                channel.allowed_up(length, &mut self.actions);
                self.read_inside(key)?;
            }
            Some(Pending::Down(length)) => {
                channel.allowed_down(length, &mut self.actions);
                self.read_inside(key)?;
            }
        }
        self.pump(key)
    }

    pub(super) fn refused_on(&mut self, key: u32, why: &str) -> Result<(), Violation> {
        let Some(channel) = self.channels.get_mut(&key) else { return Ok(()) };
        channel.ask = None;
        match channel.pending.take() {
            None => {}
            Some(Pending::Open(_)) => {
                if let Some(agent) = channel.agent {
                    let why = why.trim_end().replace('\n', " ");
                    let failure = message::open_failure(agent, &why);
                    self.actions.push(Action::ToAgent(failure.into()));
                }
                (channel.agent_closed, channel.target_closed) = (true, true);
                self.remove(key);
                return Ok(());
            }
            Some(Pending::Start(_, wants_reply)) if !channel.started => {
                channel.fail(wants_reply, why, &mut self.actions);
            }
            Some(Pending::Start(_, wants_reply) | Pending::Request(_, wants_reply, _)) => {
                channel.answer(FAILURE, wants_reply, &mut self.actions);
            }
            Some(Pending::Up(length)) => {
                channel.refused_up(length, why, &mut self.actions);
                self.read_inside(key)?;
            }
            Some(Pending::Down(length)) => {
                channel.refused_down(length, why, &mut self.actions);
                self.read_inside(key)?;
            }
        }
        self.pump(key)
    }
}

/// What is in a message with data: the stream's code, and the bytes.
pub(super) fn read_data(payload: &Bytes) -> Result<(Option<u32>, Bytes), Violation> {
    let mut read = Reader::new(payload);
    let number = read.u8()?;
    read.u32()?;
    let extended = (number == EXTENDED_DATA).then(|| read.u32()).transpose()?;
    let bytes = read.string()?;
    read.end()?;
    Ok((extended, payload.slice(payload.len() - bytes.len()..)))
}
