//! A connection of the daemon's own to a target, on which it asks and changes nothing.
//!
//! Does not belong here: what is asked, and what comes of the answers.

use chaperone_wire::postgres::{
    Answer, Described, Describing, Row, ServerError, Startup, Violation, description_of, question,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};

use crate::{
    inspect::Destination,
    tls::Stream,
    upstream::{Held, sign_on},
};

/// Protocol 3.0.
const VERSION: u32 = 3 << 16;

/// A connection of the daemon's own.
pub(crate) struct Asking {
    stream: Stream,
    bytes: Vec<u8>,
}

impl Asking {
    /// Signs on; `what_for` is the name by which the server shows the connection, `deriving` are the
    /// keys that may be derived at a time.
    pub(crate) async fn connect(
        deriving: &Semaphore,
        place: &Destination,
        held: &Held,
        what_for: &str,
    ) -> Result<Self, String> {
        let connecting = held.connector.connect(place.server.0, place.route.as_ref());
        let connected = connecting.await.map_err(|error| error.to_string())?;
        let mut stream = connected.stream;
        let mut parameters = vec![
            ("user".to_owned(), held.account.user.clone()),
            ("application_name".to_owned(), what_for.into()),
            ("client_encoding".to_owned(), "UTF8".into()),
            (
                "options".to_owned(),
                "-c standard_conforming_strings=on -c default_transaction_read_only=on".into(),
            ),
        ];
        if let Some(database) = &place.database {
            parameters.push(("database".to_owned(), database.clone()));
        }
        let startup = Startup { version: VERSION, parameters };
        let lost = |error: std::io::Error| crate::tls::target::lost(&error);
        stream.write_all(&startup.encode()).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let signed_on = sign_on(&mut stream, &held.account, connected.identified, deriving)
            .await
            .map_err(|error| error.to_string())?;
        let mut asking = Self { stream, bytes: signed_on.said };
        // Up to the server's first word that it is ready.
        asking.answer().await?;
        Ok(asking)
    }

    pub(crate) async fn ask(&mut self, text: &str) -> Result<Vec<Row>, String> {
        let lost = |error: std::io::Error| crate::tls::target::lost(&error);
        self.stream.write_all(&question(text)).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)?;
        self.answer().await
    }

    /// How the server describes the result of a statement, which it parses and does not run.
    pub(crate) async fn describe(&mut self, text: &str) -> Result<Described, String> {
        let lost = |error: std::io::Error| crate::tls::target::lost(&error);
        self.stream.write_all(&description_of(text)).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)?;
        let mut describing = Describing::default();
        self.heard(|bytes| describing.server(bytes)).await
    }

    async fn answer(&mut self) -> Result<Vec<Row>, String> {
        let mut answer = Answer::default();
        self.heard(|bytes| answer.server(bytes)).await
    }

    /// Reads until the answer is there.
    async fn heard<T>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(usize, Option<Result<T, ServerError>>), Violation>,
    ) -> Result<T, String> {
        loop {
            let (used, done) = take(&self.bytes).map_err(|violation| violation.to_string())?;
            self.bytes.drain(..used);
            if let Some(done) = done {
                return done.map_err(|error| error.message.unwrap_or_default());
            }
            let read = self.stream.read_buf(&mut self.bytes).await;
            if read.map_err(|error| crate::tls::target::lost(&error))? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }

    pub(crate) async fn goodbye(&mut self) {
        let _ = self.stream.write_all(b"X\0\0\0\x04").await;
        let _ = self.stream.flush().await;
    }
}
