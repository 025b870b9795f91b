//! What comes from the target's server.

use bytes::Bytes;

use super::{
    super::{
        codec::Reader,
        message::{
            self, Asked, CLOSE, DATA, EOF, EXTENDED_DATA, FAILURE, GLOBAL_REQUEST, OPEN,
            OPEN_CONFIRMATION, OPEN_FAILURE, Opened, REQUEST, REQUEST_FAILURE, REQUEST_SUCCESS,
            STDERR, SUCCESS, WINDOW_ADJUST,
        },
    },
    Action, CHANNELS, Channel, Conversation, Exit, Listening, Stream, Violation,
    WINDOW_OF_CONFIRMATION,
    agent::read_data,
    channel::Reading,
    clamped,
    flow::Flow,
    window_of_open,
};

impl Conversation {
    pub(super) fn hear_target(&mut self, payload: Bytes) -> Result<(), Violation> {
        let mut read = Reader::new(&payload);
        let number = read.u8()?;
        match number {
            GLOBAL_REQUEST => {
                let asked = Asked::read(read)?;
                // The target's own keys are nothing for a client that speaks with us (OpenSSH's
                // PROTOCOL, section 2.5), nor what is not known.
                if asked.kind == b"keepalive@openssh.com" {
                    self.owed_to_target += usize::from(asked.wants_reply);
                    self.actions.push(Action::ToAgent(payload));
                } else if asked.wants_reply {
                    let no = Bytes::from_static(&[REQUEST_FAILURE]);
                    self.actions.push(Action::ToTarget(no));
                }
                Ok(())
            }
            REQUEST_SUCCESS | REQUEST_FAILURE => {
                let Some((said, command)) = self.replies.answered(payload) else {
                    return Err(Violation::Misplaced { number, place: "without a question" });
                };
                self.actions.extend(said.into_iter().map(Action::ToAgent));
                if let Some(command) = command.filter(|_| number == REQUEST_FAILURE) {
                    self.rejected(command);
                }
                Ok(())
            }
            OPEN => self.opened_by_target(&payload),
            OPEN_CONFIRMATION..=FAILURE => {
                let recipient = read.u32()?;
                if self.is_own_of_target(recipient) {
                    return self.hear_own(number, recipient, &payload);
                }
                let opens = matches!(number, OPEN_CONFIRMATION | OPEN_FAILURE);
                let Some(key) = self.of_agents(recipient, opens) else {
                    return Err(Violation::NoChannel(recipient));
                };
                self.target_on_channel(number, key, recipient, payload)?;
                self.remove_closed(key);
                Ok(())
            }
            number => Err(Violation::Misplaced { number, place: "between channels" }),
        }
    }

    /// The target opens a channel: only of what was asked for and allowed.
    fn opened_by_target(&mut self, payload: &Bytes) -> Result<(), Violation> {
        let opened = Opened::read(Reader::new(payload.get(1..).unwrap_or_default()))?;
        let sender = opened.sender;
        if self.by_target.contains_key(&sender) || self.is_own_of_agent(sender) {
            return Err(Violation::TakenChannel(sender));
        }
        let find = |fits: &dyn Fn(&Listening) -> bool| {
            self.listening.iter().rev().find(|(asked, _)| fits(asked))
        };
        let mut body = opened.body;
        let of = match opened.kind {
            b"forwarded-tcpip" => {
                let all = body.rest();
                body.string()?;
                body.u32()?;
                let place = all.get(..all.len() - body.rest().len()).unwrap_or_default();
                let same = |asked: &Listening| matches!(asked, Listening::Tcp(at) if at == place);
                // The target may name an address in another way, and chose a port that was 0.
                find(&same).or_else(|| find(&|asked| matches!(asked, Listening::Tcp(_))))
            }
            b"forwarded-streamlocal@openssh.com" => {
                let place = body.rest();
                find(&|asked| matches!(asked, Listening::Socket(at) if place.starts_with(at)))
            }
            b"x11" => find(&|asked| *asked == Listening::X11),
            b"auth-agent@openssh.com" => find(&|asked| *asked == Listening::Agent),
            _ => None,
        };
        let Some(command) = of.map(|(_, ask)| *ask).filter(|_| self.channels.len() < CHANNELS)
        else {
            let no = message::open_failure(sender, "nobody asked for this channel");
            self.actions.push(Action::ToTarget(no.into()));
            return Ok(());
        };
        let mut channel = Channel::new();
        channel.target = Some(sender);
        channel.up = Some(Flow::new(sender, opened.window, opened.packet));
        (channel.command, channel.of_target) = (Some(command), true);
        let key = self.insert(channel);
        self.by_target.insert(sender, key);
        let said = clamped(payload, opened.window, window_of_open(opened.kind));
        self.actions.push(Action::ToAgent(said));
        Ok(())
    }

    fn target_on_channel(
        &mut self,
        number: u8,
        key: u32,
        recipient: u32,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let Some(channel) = self.channels.get_mut(&key) else { return Ok(()) };
        let actions = &mut self.actions;
        let mut read = Reader::new(payload.get(5..).unwrap_or_default());
        if channel.target_closed {
            return Err(Violation::NoChannel(recipient));
        }
        match number {
            OPEN_CONFIRMATION if channel.target.is_none() && channel.pending.is_none() => {
                let (sender, window, packet) = (read.u32()?, read.u32()?, read.u32()?);
                let is_own = self.owns.is_of_agent(sender);
                if self.by_target.contains_key(&sender) || is_own {
                    return Err(Violation::TakenChannel(sender));
                }
                channel.target = Some(sender);
                channel.up = Some(Flow::new(sender, window, packet));
                self.by_target.insert(sender, key);
                let said = clamped(&payload, window, WINDOW_OF_CONFIRMATION);
                actions.push(Action::ToAgent(said));
            }
            OPEN_FAILURE if channel.target.is_none() && channel.pending.is_none() => {
                if let Some(command) = channel.command {
                    read.u32()?;
                    let why = String::from_utf8_lossy(read.string()?).chars().take(1000).collect();
                    actions.push(Action::Rejected { command, why });
                }
                actions.push(Action::ToAgent(payload));
                (channel.agent_closed, channel.target_closed) = (true, true);
            }
            _ if channel.target.is_none() || channel.down.is_none() => {
                return Err(Violation::NoChannel(recipient));
            }
            WINDOW_ADJUST => {
                let mut out = Vec::new();
                if let Some(up) = &mut channel.up {
                    up.adjusted(read.u32()?, &mut out);
                }
                actions.extend(out.into_iter().map(Action::ToTarget));
                channel.grant(actions);
            }
            SUCCESS | FAILURE => {
                let Some((said, command)) = channel.replies.answered(payload) else {
                    return Err(Violation::Misplaced { number, place: "without a question" });
                };
                for one in said {
                    if !channel.told_agent {
                        channel.tell_agent(one, actions);
                    }
                }
                if channel.floods() {
                    return Err(Violation::TooMany("answers that nobody reads"));
                }
                if let Some(command) = command.filter(|_| number == FAILURE) {
                    self.rejected(command);
                }
            }
            DATA | EXTENDED_DATA => {
                let (extended, bytes) = read_data(&payload)?;
                if let Some(down) = &mut channel.down {
                    down.received(bytes.len(), recipient)?;
                }
                if bytes.is_empty() {
                    return Ok(());
                }
                if channel.told_agent || channel.agent_closed {
                    return Ok(());
                }
                if extended.is_none() && !matches!(channel.reading, Reading::Plain) {
                    channel.read_down(bytes);
                    self.read_inside(key)?;
                    return self.pump(key);
                }
                if channel.filters.is_some() {
                    channel.hear(extended, &bytes, actions);
                    channel.grant(actions);
                    return Ok(());
                }
                let mut out = Vec::new();
                if let Some(down) = &mut channel.down {
                    down.data(extended, &bytes, Some(&payload), &mut out);
                }
                actions.extend(out.into_iter().map(Action::ToAgent));
                let stream = if extended == Some(STDERR) { Stream::Err } else { Stream::Out };
                if let Some(command) = channel.command {
                    actions.push(Action::Passed { command, channel: key, stream, bytes });
                }
                channel.grant(actions);
            }
            EOF if channel.told_agent => {}
            EOF => {
                channel.let_go(actions, |filter, out| filter.finish(out));
                channel.tell_agent(payload, actions);
            }
            CLOSE => {
                channel.target_closed = true;
                channel.let_go(actions, |filter, out| filter.finish(out));
                if let Some(ask) = channel.ask.take() {
                    channel.pending = None;
                    self.asks.remove(&ask);
                    actions.push(Action::Withdrawn { ask });
                }
                let mut out = Vec::new();
                if let Some(up) = &mut channel.up {
                    up.end(&mut out);
                }
                actions.extend(out.into_iter().map(Action::ToTarget));
                // The client's own close answers it: until then its number of the channel, by which the
                // client calls it, must not be another's.
                channel.close_agent(actions);
            }
            REQUEST => {
                let mut asked = Asked::read(read)?;
                match asked.kind {
                    b"exit-status" => {
                        channel.exited(Exit::Status(asked.body.u32()?), actions);
                    }
                    b"exit-signal" => {
                        let name = String::from_utf8_lossy(asked.body.string()?);
                        channel.exited(Exit::Signal(name.chars().take(64).collect()), actions);
                    }
                    _ => {}
                }
                if !channel.told_agent {
                    channel.tell_agent(payload, actions);
                }
                if channel.floods() {
                    return Err(Violation::TooMany("requests that nobody reads"));
                }
            }
            number => return Err(Violation::Misplaced { number, place: "on a channel" }),
        }
        Ok(())
    }
}
