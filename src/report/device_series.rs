//! Series of the devices of one domain: their names, the metrics last sent, zeros still owed once a device is gone.

use crate::metrics::devices::{self, DetailSink, DetailValue};
use crate::metrics::metric::{Kind, Rows};
use crate::model::device::DeviceId;
use crate::naming::name::DomainName;
use crate::naming::namer::Names;
use crate::report::selection::{OnVanish, Selection};
use crate::statsd::batch::BatchWriter;

/// Several, so that lost datagrams do not leave the value of what is gone.
pub const ZEROS_ON_RETIRE: u32 = 3;

/// The series of a domain's devices.
#[derive(Default)]
pub struct DeviceSeries {
    /// Those of the latest snapshot in its order, then the others.
    list: Vec<OneSeries>,
    /// How many of the first, so far.
    present: usize,
}

/// A device, or the domain itself, which has rates, memory and runstates.
struct OneSeries {
    id: Option<DeviceId>,
    names: Names,
    /// Of its metrics those that pass the filter, and those that were sent and are no counters.
    selected: Rows,
    sent: Rows,
    /// Zeros still to send once it is gone.
    zeros: u32,
}

/// Adds the values of a snapshot.
pub struct Emitter<'a> {
    /// The series of the domain's devices.
    pub series: &'a mut DeviceSeries,
    /// The domain as its devices' names have it.
    pub domain: DomainName<'a>,
    /// Which metrics to add.
    pub selection: &'a Selection,
    /// Where to.
    pub statsd: &'a mut BatchWriter,
}

impl DetailSink for Emitter<'_> {
    fn take(&mut self, device: Option<DeviceId>, values: impl Iterator<Item = DetailValue>) {
        let Self { series, domain, selection, statsd } = self;
        let remembers = selection.on_vanish == OnVanish::Zero;
        let series = series.next(device, || OneSeries::new(device, *domain, selection));
        statsd.names(series.names.parts());
        for DetailValue { row, metric, kind, value } in values.filter(|value| series.selected.contains(value.row)) {
            statsd.gauge(metric, value);
            if remembers && kind != Kind::Counter {
                series.sent.insert(row);
            }
        }
    }
}

impl DeviceSeries {
    /// The series of a device of the snapshot, as a rule the next in the list.
    fn next(&mut self, device: Option<DeviceId>, new: impl FnOnce() -> OneSeries) -> &mut OneSeries {
        let place = self.list[self.present..].iter().position(|series| series.id == device);
        let place = place.map_or(self.list.len(), |place| self.present + place);
        if place == self.list.len() {
            self.list.push(new());
        }
        self.list[self.present..=place].rotate_right(1);
        self.present += 1;
        let series = &mut self.list[self.present - 1];
        series.zeros = ZEROS_ON_RETIRE;
        series
    }

    /// After the values of a snapshot: adds the zeros of devices that are gone.
    pub fn retire(&mut self, is_gone: impl Fn(DeviceId) -> bool, statsd: &mut BatchWriter) {
        let (present, mut place) = (std::mem::take(&mut self.present), 0..);
        self.list.retain_mut(|series| {
            if place.next() >= Some(present) && series.id.is_some_and(&is_gone) {
                series.zero(statsd);
                series.zeros -= 1;
            }
            series.zeros > 0
        });
    }

    /// Adds the zeros of all, as the domain is gone.
    pub fn zero(&self, statsd: &mut BatchWriter) {
        self.list.iter().for_each(|series| series.zero(statsd));
    }

    /// Whether a server has values of them that would have to be set to 0.
    pub fn have_sent(&self) -> bool {
        self.list.iter().any(|series| !series.sent.is_empty())
    }
}

impl OneSeries {
    fn new(id: Option<DeviceId>, domain: DomainName, selection: &Selection) -> Self {
        let name = id.map(|id| (id.kind, id.name()));
        let device = name.as_ref().map(|(kind, name)| (*kind, name.as_str()));
        let (mut selected, mut joined) = (Rows::default(), String::new());
        for (row, metric) in devices::metrics(id.map(|id| id.kind)).into_iter().enumerate() {
            if selection.has_detail(device, metric, &mut joined) {
                selected.insert(row);
            }
        }
        let names = selection.namer.names(domain, device);
        Self { id, names, selected, sent: Rows::default(), zeros: ZEROS_ON_RETIRE }
    }

    fn zero(&self, statsd: &mut BatchWriter) {
        statsd.names(self.names.parts());
        let metrics = devices::metrics(self.id.map(|id| id.kind)).into_iter().enumerate();
        metrics.filter(|(row, _)| self.sent.contains(*row)).for_each(|(_, metric)| statsd.gauge(metric, 0.0));
    }
}
