//! Labels, time series and what a tenant has.

use std::collections::BTreeSet;

use engine::labels::name::PROFILE_TYPE;
use engine::pace::Pace;
use engine::profile_type::ProfileType;
use engine::query::{Aggregation, Range, TimeSeries, step_ms};
use engine::tenant::TenantId;
use proto::querier::{SelectSeriesRequest, SeriesRequest};
use proto::rpc::Failure;
use proto::rpc::select::{SelectReply, SelectRequest, StatsPart};
use proto::types::{
    ExemplarType, GetProfileStatsResponse, LabelNamesRequest, LabelPair, LabelValuesRequest,
    Labels, Series, TimeSeriesAggregationType,
};

use super::Querier;
use super::gather::Gathered;
use super::request::{
    call_site, check_names, matchers_of_all, matchers_of_type, profile_type, refused, selection,
    unimplemented,
};
use crate::http::NameCharset;
use crate::runtime::Runtime;

/// Distinct names or values.
struct Names<'a>(BTreeSet<String>, &'a Pace);

impl Gathered for Names<'_> {
    async fn add(&mut self, part: SelectReply) -> Result<(), Failure> {
        let SelectReply::Names(names) = part else { panic!("names are answered by names") };
        for name in names {
            self.0.insert(name);
            self.1.spend(4).await;
        }
        Ok(())
    }
}

/// Distinct label sets, of names in a character set.
struct Sets<'a>(BTreeSet<Vec<(String, String)>>, NameCharset, &'a Pace);

impl Gathered for Sets<'_> {
    async fn add(&mut self, part: SelectReply) -> Result<(), Failure> {
        let SelectReply::Series(sets) = part else { panic!("series are answered by series") };
        for mut set in sets {
            set.retain(|(name, _)| is_of(self.1, name));
            self.2.spend(4 + set.len()).await;
            self.0.insert(set);
        }
        Ok(())
    }
}

impl Gathered for (&mut TimeSeries, &Pace) {
    async fn add(&mut self, part: SelectReply) -> Result<(), Failure> {
        let SelectReply::Points(parts) = part else { panic!("points are answered by points") };
        self.0.merge(parts, self.1).await;
        Ok(())
    }
}

impl Gathered for StatsPart {
    async fn add(&mut self, part: SelectReply) -> Result<(), Failure> {
        let SelectReply::Stats(part) = part else { panic!("stats are answered by stats") };
        if part.data_ingested {
            let whole = if self.data_ingested { *self } else { part };
            self.data_ingested = true;
            self.oldest_ms = whole.oldest_ms.min(part.oldest_ms);
            self.newest_ms = whole.newest_ms.max(part.newest_ms);
        }
        Ok(())
    }
}

impl<R: Runtime> Querier<R> {
    /// Profile types with data in a range, by id.
    pub(super) async fn types_of(
        &self,
        tenants: &[TenantId],
        range: Option<Range>,
    ) -> Result<Vec<proto::types::ProfileType>, Failure> {
        let Some(range) = range else { return Ok(Vec::new()) };
        let selection = selection(tenants, range, Vec::new());
        let name = PROFILE_TYPE.to_owned();
        let ids = self.distinct(SelectRequest::LabelValues { selection, name }).await?;
        Ok(ids
            .iter()
            .filter_map(|id| ProfileType::parse(id).ok())
            .map(|id| message_of(&id))
            .collect())
    }

    pub(super) async fn values_of(
        &self,
        tenants: &[TenantId],
        request: LabelValuesRequest,
    ) -> Result<Vec<String>, Failure> {
        let range = self.range_or_last_hour(tenants, request.start, request.end)?;
        if request.name.is_empty() {
            return Err(refused("name is required"));
        }
        let matchers = matchers_of_all(&request.matchers)?;
        let Some(range) = range else { return Ok(Vec::new()) };
        let selection = selection(tenants, range, matchers);
        self.distinct(SelectRequest::LabelValues { selection, name: request.name }).await
    }

    pub(super) async fn names_of(
        &self,
        tenants: &[TenantId],
        charset: NameCharset,
        request: LabelNamesRequest,
    ) -> Result<Vec<String>, Failure> {
        let range = self.range_or_last_hour(tenants, request.start, request.end)?;
        let matchers = matchers_of_all(&request.matchers)?;
        let Some(range) = range else { return Ok(Vec::new()) };
        let selection = selection(tenants, range, matchers);
        let mut names = self.distinct(SelectRequest::LabelNames(selection)).await?;
        names.retain(|name| is_of(charset, name));
        Ok(names)
    }

    async fn distinct(&self, request: SelectRequest) -> Result<Vec<String>, Failure> {
        let pace = Pace::new();
        let mut names = Names(BTreeSet::new(), &pace);
        self.gather(request, &mut names).await?;
        Ok(names.0.into_iter().collect())
    }

    pub(super) async fn sets_of(
        &self,
        tenants: &[TenantId],
        charset: NameCharset,
        request: SeriesRequest,
    ) -> Result<Vec<Labels>, Failure> {
        let range = self.range_or_last_hour(tenants, request.start, request.end)?;
        check_names("label_names", &request.label_names)?;
        let matchers = matchers_of_all(&request.matchers)?;
        let Some(range) = range else { return Ok(Vec::new()) };
        let pace = Pace::new();
        let mut sets = Sets(BTreeSet::new(), charset, &pace);
        let selection = selection(tenants, range, matchers);
        let ask = SelectRequest::Series { selection, label_names: request.label_names };
        self.gather(ask, &mut sets).await?;
        // Series that lack all the names asked for are one empty set; alone it tells nothing.
        if sets.0.iter().all(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let pair = |(name, value)| LabelPair { name, value };
        let mut answer = Vec::with_capacity(sets.0.len());
        for set in sets.0 {
            pace.spend(4 + set.len()).await;
            answer.push(Labels { labels: set.into_iter().map(pair).collect() });
        }
        Ok(answer)
    }

    pub(super) async fn time_series(
        &self,
        tenants: &[TenantId],
        request: &SelectSeriesRequest,
    ) -> Result<Vec<Series>, Failure> {
        let range = self.range(tenants, request.start, request.end)?;
        let profile_type = profile_type(&request.profile_type_id)?;
        let step_ms = step_ms(request.step).map_err(refused)?;
        check_names("group_by", &request.group_by)?;
        let call_site = call_site(request.stack_trace_selector.as_ref())?;
        let matchers = matchers_of_type(&request.label_selector, &profile_type)?;
        if request.exemplar_type() == ExemplarType::Span {
            return Err(unimplemented("exemplars of spans are not kept yet"));
        }
        let Some(range) = range else { return Ok(Vec::new()) };
        let early = Range { start_ms: range.start_ms.saturating_sub(step_ms), ..range };
        let ask = SelectRequest::Points {
            selection: selection(tenants, early, matchers),
            grid_start_ms: range.start_ms,
            step_ms,
            group_by: request.group_by.clone(),
            call_site,
        };
        let pace = Pace::new();
        let mut series = TimeSeries::default();
        self.gather(ask, &mut (&mut series, &pace)).await?;
        let aggregation = match request.aggregation() {
            TimeSeriesAggregationType::Sum => Aggregation::Sum,
            TimeSeriesAggregationType::Average => Aggregation::Average,
        };
        Ok(series.finish(aggregation, request.limit.unwrap_or(0), &pace).await)
    }

    pub(super) async fn stats(
        &self,
        tenants: &[TenantId],
    ) -> Result<GetProfileStatsResponse, Failure> {
        let [tenant] = tenants else {
            return Err(refused(format!("expected 1 tenant, got {}", tenants.len())));
        };
        let mut stats = StatsPart::default();
        self.gather(SelectRequest::Stats { tenant: tenant.as_str().to_owned() }, &mut stats)
            .await?;
        Ok(GetProfileStatsResponse {
            data_ingested: stats.data_ingested,
            oldest_profile_time: stats.oldest_ms,
            newest_profile_time: stats.newest_ms,
        })
    }
}

fn message_of(profile_type: &ProfileType) -> proto::types::ProfileType {
    proto::types::ProfileType {
        id: profile_type.id().to_owned(),
        name: profile_type.name().to_owned(),
        sample_type: profile_type.sample_type().to_owned(),
        sample_unit: profile_type.sample_unit().to_owned(),
        period_type: profile_type.period_type().to_owned(),
        period_unit: profile_type.period_unit().to_owned(),
    }
}

/// Whether a client of the character set can take a name.
fn is_of(charset: NameCharset, name: &str) -> bool {
    charset == NameCharset::Utf8
        || (name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}
