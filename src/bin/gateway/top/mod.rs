//! `gateway top`: the whole, live, on a terminal. [`model`] says what is shown
//! and what a key does, [`view`] draws it, both without a terminal; what is here
//! is the loop between the keyboard, the bus and the screen.

mod gather;
mod grid;
mod model;
mod rates;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use audio_gateway::{
    bus::{BusOptions, messages::Verdict},
    client::Gateway,
    clock,
    id::WorkerId,
};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::interval,
};

use self::{
    gather::Gathered,
    model::{Key, Model, Wish},
};
use crate::exit::{Exit, Usage};

/// How long the keyboard's thread waits before it looks whether it is needed.
const LOOK: Duration = Duration::from_millis(100);
/// Keys that wait for the screen.
const KEYS: usize = 64;
/// How often ages move on where nothing else happens.
const REDRAW: Duration = Duration::from_millis(500);

/// Whether there is a terminal to draw on.
pub(crate) fn check(json: bool) -> anyhow::Result<()> {
    if !json && io::stdout().is_terminal() && io::stdin().is_terminal() {
        return Ok(());
    }
    let why = "top draws on a terminal and reads its keys, and this is none: programs use \
               `gateway workers --json`, `gateway list --json` and `gateway events --json`";
    Err(Usage(why.to_owned()).into())
}

pub(crate) async fn run(bus: &BusOptions) -> anyhow::Result<Exit> {
    let gateway = Gateway::connect(bus).await?;
    let mut model = Model::new(gateway.control().url());
    // Told first, so that the screen is restored however it ends; a panic's own
    // text comes after that.
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let (pictures_in, mut pictures) = mpsc::channel(1);
    tokio::spawn(gather::run(gateway.clone(), pictures_in));
    let (keys_in, mut keys) = mpsc::channel(KEYS);
    let mut terminal = ratatui::try_init()?;
    let _restored = Restored;
    let keyboard = std::thread::Builder::new().name("keyboard".to_owned());
    keyboard.spawn(move || read_keys(&keys_in))?;
    let [terminate, interrupt, hangup] = signals.as_mut_slice() else { unreachable!("three") };
    let screen = Screen { model: &mut model, gateway: &gateway, terminal: &mut terminal };
    tokio::select! {
        ended = screen.run(&mut keys, &mut pictures) => ended.map(|()| Exit::Done),
        _ = terminate.recv() => Ok(Exit::Done),
        _ = hangup.recv() => Ok(Exit::Done),
        _ = interrupt.recv() => Ok(Exit::Done),
    }
}

/// Gives the terminal back when it is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to give back.
        let _ = ratatui::try_restore();
    }
}

struct Screen<'a> {
    model: &'a mut Model,
    gateway: &'a Gateway,
    terminal: &'a mut DefaultTerminal,
}

/// What a worker said to being drained or undrained.
type Told = (WorkerId, bool, Result<Verdict, String>);

impl Screen<'_> {
    async fn run(
        self,
        keys: &mut mpsc::Receiver<Event>,
        pictures: &mut mpsc::Receiver<Gathered>,
    ) -> anyhow::Result<()> {
        let (told_in, mut told) = mpsc::channel::<Told>(KEYS);
        let mut redraw = interval(REDRAW);
        let mut health = self.gateway.control().health();
        loop {
            self.model.now_ms = clock::unix_ms();
            if !*health.borrow_and_update() {
                self.model.failed("the server is away; reconnecting".to_owned());
            }
            self.terminal.draw(|frame| view::draw(frame, self.model))?;
            tokio::select! {
                event = keys.recv() => match event {
                    Some(Event::Key(pressed)) => {
                        let wish = key(pressed).and_then(|key| self.model.press(key));
                        match wish {
                            Some(Wish::Quit) => return Ok(()),
                            Some(Wish::Drain(worker)) => self.tell(worker, false, told_in.clone()),
                            Some(Wish::Undrain(worker)) => self.tell(worker, true, told_in.clone()),
                            None => (),
                        }
                    }
                    Some(_) => (),
                    None => anyhow::bail!("the terminal is gone"),
                },
                picture = pictures.recv() => match picture {
                    Some(Ok(picture)) => self.model.heard(*picture),
                    Some(Err(why)) => self.model.failed(why),
                    None => (),
                },
                Some((worker, undrain, said)) = told.recv() => {
                    let verb = if undrain { "undrained" } else { "drained" };
                    self.model.notice = match said {
                        Ok(verdict) if verdict.accepted => format!("{worker} is being {verb}"),
                        Ok(verdict) => format!("{worker} is not {verb}: {}", verdict.reason),
                        Err(error) => format!("{worker} is not {verb}: {error}"),
                    };
                }
                _ = redraw.tick() => (),
            }
        }
    }

    fn tell(&self, worker: WorkerId, undrain: bool, told: mpsc::Sender<Told>) {
        let gateway = self.gateway.clone();
        tokio::spawn(async move {
            let reason = "asked for in gateway top";
            let said = if undrain {
                gateway.undrain(&worker, reason).await
            } else {
                gateway.drain(&worker, reason).await
            };
            let _ = told.send((worker, undrain, said.map_err(|error| error.to_string()))).await;
        });
    }
}

/// Reads the keyboard until nobody wants it; a terminal that is gone ends it.
fn read_keys(keys: &mpsc::Sender<Event>) {
    while !keys.is_closed() {
        match event::poll(LOOK)
            .and_then(|ready| if ready { event::read().map(Some) } else { Ok(None) })
        {
            Ok(Some(event)) => {
                if keys.blocking_send(event).is_err() {
                    return;
                }
            }
            Ok(None) => (),
            Err(_) => return,
        }
    }
}

fn key(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    if pressed.modifiers.contains(KeyModifiers::CONTROL) {
        return (pressed.code == KeyCode::Char('c')).then_some(Key::Interrupt);
    }
    Some(match pressed.code {
        KeyCode::Char(letter) => Key::Char(letter),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab | KeyCode::BackTab => Key::Tab,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
