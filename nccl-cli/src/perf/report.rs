//! What rank 0 says: each row goes to the table at once, and to the files.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;

use crate::perf::Failure;
use crate::perf::args::Files;
use crate::perf::args::Work;
use crate::perf::cell::Cell;
use crate::perf::cell::Collective;
use crate::perf::csv;
use crate::perf::json;
use crate::perf::matrix::World;
use crate::perf::memory::Memory;
use crate::perf::plot;
use crate::perf::table;
use crate::perf::time::Timing;

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) cell: Cell,
    /// Out of place and in place; `None` where that does not exist or was not asked for.
    pub(crate) forms: [Option<Measured>; 2],
    /// Of the same forms: why the backend has them not.
    pub(crate) refusals: [Option<String>; 2],
}

/// One form of one cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// How long it takes.
    pub(crate) timing: Timing,
    /// Elements of all ranks that are not what they must be; `None` with `-c 0`.
    pub(crate) wrong: Option<u64>,
}

impl Row {
    /// The form that stands for the row where there is place for one: what other benchmarks
    /// measure, in place for `all_reduce` and out of place for the others.
    pub(crate) fn chosen(&self) -> Option<&Measured> {
        let [out, inside] = &self.forms;
        if self.cell.collective == Collective::AllReduce {
            inside.as_ref().or(out.as_ref())
        } else {
            out.as_ref().or(inside.as_ref())
        }
    }

    /// Bytes of the algorithm by time, in GB/s (1e9).
    pub(crate) fn algbw(&self, micros: f64) -> f64 {
        if micros > 0.0 { self.cell.bytes() as f64 / micros / 1e3 } else { 0.0 }
    }

    /// Bytes of the wires by time, by nccl-tests' factors, in GB/s (1e9).
    pub(crate) fn busbw(&self, micros: f64) -> f64 {
        self.algbw(micros) * self.cell.bus_factor()
    }
}

/// What all rows come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    /// Wrong elements; `None` before anything was checked.
    pub(crate) wrong: Option<u64>,
    busbw: f64,
    forms: u64,
}

impl Total {
    /// Counts a row.
    pub(crate) fn add(&mut self, row: &Row) {
        for form in row.forms.iter().flatten() {
            if let Some(wrong) = form.wrong {
                self.wrong = Some(self.wrong.unwrap_or(0) + wrong);
            }
            if row.cell.collective != Collective::Barrier {
                self.busbw += row.busbw(form.timing.avg_us);
                self.forms += 1;
            }
        }
    }

    /// The mean over all that has a bandwidth.
    pub(crate) fn average_busbw(&self) -> f64 {
        if self.forms == 0 { 0.0 } else { self.busbw / self.forms as f64 }
    }
}

/// Where rank 0 reports.
pub(crate) struct Report {
    table: bool,
    json: Option<Box<dyn Write + Send>>,
    csv: Option<Box<dyn Write + Send>>,
    plot: Option<File>,
    peer: String,
    progress: bool,
    cells: usize,
    world: Option<World>,
    header: serde_json::Value,
    rows: Vec<Row>,
    total: Total,
}

impl Report {
    /// Opens the files.
    ///
    /// # Errors
    /// Names the file.
    pub(crate) fn open(files: &Files) -> Result<Self, Failure> {
        let is_stdout = |path: &Option<std::path::PathBuf>| path.as_deref() == Some(Path::new("-"));
        if is_stdout(&files.json) && is_stdout(&files.csv) {
            return Err(Failure::usage("--json - and --csv - cannot both be standard output"));
        }
        Ok(Self {
            table: !is_stdout(&files.json) && !is_stdout(&files.csv),
            json: sink("--json", files.json.as_deref())?,
            csv: sink("--csv", files.csv.as_deref())?,
            plot: files.plot.as_deref().map(|path| create("--plot", path)).transpose()?,
            peer: files.peer.clone(),
            progress: files.progress,
            cells: 0,
            world: None,
            header: serde_json::Value::Null,
            rows: Vec::new(),
            total: Total::default(),
        })
    }

    /// Says who takes part.
    ///
    /// # Errors
    /// What cannot be written.
    pub(crate) fn begin(&mut self, world: &World, work: &Work) -> Result<(), Failure> {
        self.cells = work.cells.len();
        self.header = json::header(world, work);
        if self.table {
            print(&table::header(world, work))?;
        }
        if let Some(csv) = &mut self.csv {
            written("--csv", csv.write_all(csv::HEADER.as_bytes()))?;
        }
        self.world = Some(world.clone());
        Ok(())
    }

    /// Reports one row.
    ///
    /// # Errors
    /// What cannot be written.
    pub(crate) fn row(&mut self, row: Row) -> Result<(), Failure> {
        let before = self.rows.last().filter(|last| last.cell.collective == row.cell.collective);
        self.total.add(&row);
        if self.table {
            let title = before.map_or_else(|| table::title(row.cell.collective), |_| String::new());
            let why = table::refusals(&row, before);
            print(&format!("{title}{}{why}", table::row(&row)))?;
        }
        if let (Some(csv), Some(world)) = (&mut self.csv, &self.world) {
            let line = csv::row(&row, &self.peer, world.transport());
            written("--csv", csv.write_all(line.as_bytes()).and_then(|()| csv.flush()))?;
        }
        if self.progress {
            let (number, name) = (self.rows.len() + 1, row.cell.collective.name());
            eprintln!("nccl perf: {number} of {}: {name}, {} B", self.cells, row.cell.bytes());
        }
        self.rows.push(row);
        Ok(())
    }

    /// Writes what comes at the end; `failure` says why it came early.
    ///
    /// # Errors
    /// What cannot be written.
    pub(crate) fn end(mut self, failure: Option<&str>) -> Result<(), Failure> {
        if self.table {
            let memory = self.world.as_ref().map_or(Memory::Host, World::memory);
            print(&table::footer(&self.total, memory, self.rows.is_empty(), failure))?;
        }
        if let Some(mut json) = self.json.take() {
            let header = std::mem::take(&mut self.header);
            let transport = self.world.as_ref().map_or("none", World::transport);
            let text = json::document(header, &self.rows, &self.total, transport, failure);
            written("--json", json.write_all(text.as_bytes()).and_then(|()| json.flush()))?;
        }
        if let Some(mut file) = self.plot.take() {
            let ranks = self.world.as_ref().map_or(0, |world| world.ranks.len());
            let transport = self.world.as_ref().map_or("none", World::transport);
            let title = format!("{} {transport}, {ranks} ranks", self.peer);
            written("--plot", file.write_all(plot::draw(&title, &self.rows).as_bytes()))?;
        }
        Ok(())
    }
}

fn sink(option: &str, path: Option<&Path>) -> Result<Option<Box<dyn Write + Send>>, Failure> {
    let Some(path) = path else { return Ok(None) };
    if path == Path::new("-") {
        return Ok(Some(Box::new(io::stdout())));
    }
    Ok(Some(Box::new(create(option, path)?)))
}

fn create(option: &str, path: &Path) -> Result<File, Failure> {
    File::create(path)
        .map_err(|why| Failure::other(format!("{option} {}: cannot write: {why}", path.display())))
}

fn written(option: &str, result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|why| Failure::other(format!("{option}: cannot write: {why}")))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written("standard output", out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}
