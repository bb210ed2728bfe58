package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	profilev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"
)

const (
	cpu     = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
	samples = 2000
	// What one profile adds up to: 1 + 2 + … + samples.
	total = samples * (samples + 1) / 2
	// A call that takes longer than this has hung.
	patience = 20 * time.Second
)

func (w way) within(procedure string, request, reply proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.call(ctx, procedure, request, reply)
}

// service is the name under which a way pushes.
func service(pusher int) string {
	return fmt.Sprintf("protocols.%d", pusher)
}

// profile is the same for every way but for its time: many stacks, so that answers are long enough to be compressed.
func (p *proof) profile() []byte {
	made := &profilev1.Profile{
		SampleType:    []*profilev1.ValueType{{Type: 1, Unit: 2}},
		PeriodType:    &profilev1.ValueType{Type: 1, Unit: 2},
		Period:        10_000_000,
		TimeNanos:     p.started.UnixNano(),
		DurationNanos: int64(10 * time.Second),
		StringTable:   []string{"", "cpu", "nanoseconds", "main"},
		Mapping:       []*profilev1.Mapping{{Id: 1, HasFunctions: true}},
		Function:      []*profilev1.Function{{Id: 1, Name: 3}},
		Location:      []*profilev1.Location{{Id: 1, MappingId: 1, Line: []*profilev1.Line{{FunctionId: 1}}}},
	}
	for i := range uint64(samples) {
		id := i + 2
		made.StringTable = append(made.StringTable, fmt.Sprintf("work %d", i))
		made.Function = append(made.Function, &profilev1.Function{Id: id, Name: int64(len(made.StringTable) - 1)})
		made.Location = append(made.Location, &profilev1.Location{Id: id, MappingId: 1, Line: []*profilev1.Line{{FunctionId: id}}})
		made.Sample = append(made.Sample, &profilev1.Sample{LocationId: []uint64{id, 1}, Value: []int64{int64(i) + 1}})
	}
	bytes, err := proto.Marshal(made)
	if err != nil {
		panic(err)
	}
	return bytes
}

func push(service string, profile []byte) *pushv1.PushRequest {
	labels := []*typesv1.LabelPair{
		{Name: "__name__", Value: "process_cpu"},
		{Name: "service_name", Value: service},
		{Name: "region", Value: "here"},
	}
	return &pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{
		Labels:  labels,
		Samples: []*pushv1.RawSample{{RawProfile: profile}},
	}}}
}

func (p *proof) pushByEach() {
	profile := p.profile()
	for i, way := range p.ways {
		err := way.within(pushv1connect.PusherServicePushProcedure, push(service(i), profile), &pushv1.PushResponse{})
		p.check(err, "%s pushes", way.name)
	}
}

// readByEach asks every question about every way's push by every way; answers equal the first way's.
func (p *proof) readByEach() {
	start, end := p.started.Add(-time.Hour).UnixMilli(), p.started.Add(time.Hour).UnixMilli()
	for i, pusher := range p.ways {
		selector := fmt.Sprintf(`{service_name="%s"}`, service(i))
		nodes := int64(1 << 20)
		for _, question := range []struct {
			procedure string
			request   proto.Message
			reply     func() proto.Message
			holds     func(proto.Message) error
		}{
			{
				querierv1connect.QuerierServiceSelectMergeStacktracesProcedure,
				&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: selector, Start: start, End: end, MaxNodes: &nodes},
				func() proto.Message { return &querierv1.SelectMergeStacktracesResponse{} },
				func(reply proto.Message) error {
					graph := reply.(*querierv1.SelectMergeStacktracesResponse).GetFlamegraph()
					return equal("total and names", [2]int64{graph.GetTotal(), int64(len(graph.GetNames()))}, [2]int64{total, samples + 2})
				},
			},
			{
				querierv1connect.QuerierServiceSelectMergeProfileProcedure,
				&querierv1.SelectMergeProfileRequest{ProfileTypeID: cpu, LabelSelector: selector, Start: start, End: end},
				func() proto.Message { return &profilev1.Profile{} },
				func(reply proto.Message) error {
					sum := int64(0)
					for _, sample := range reply.(*profilev1.Profile).GetSample() {
						sum += sample.GetValue()[0]
					}
					return equal("sum", sum, total)
				},
			},
			{
				querierv1connect.QuerierServiceSelectSeriesProcedure,
				&querierv1.SelectSeriesRequest{ProfileTypeID: cpu, LabelSelector: selector, Start: start, End: end, Step: 15, GroupBy: []string{"region"}},
				func() proto.Message { return &querierv1.SelectSeriesResponse{} },
				func(reply proto.Message) error {
					return equal("series", len(reply.(*querierv1.SelectSeriesResponse).GetSeries()), 1)
				},
			},
			{
				querierv1connect.QuerierServiceLabelNamesProcedure,
				&typesv1.LabelNamesRequest{Matchers: []string{selector}, Start: start, End: end},
				func() proto.Message { return &typesv1.LabelNamesResponse{} },
				func(reply proto.Message) error {
					names := strings.Join(reply.(*typesv1.LabelNamesResponse).GetNames(), " ")
					if !strings.Contains(names, "region") || !strings.Contains(names, "service_name") {
						return fmt.Errorf("names: %s", names)
					}
					return nil
				},
			},
			{
				querierv1connect.QuerierServiceSeriesProcedure,
				&querierv1.SeriesRequest{Matchers: []string{selector}, LabelNames: []string{"service_name", "region"}, Start: start, End: end},
				func() proto.Message { return &querierv1.SeriesResponse{} },
				func(reply proto.Message) error {
					return equal("series", len(reply.(*querierv1.SeriesResponse).GetLabelsSet()), 1)
				},
			},
		} {
			first := question.reply()
			err := p.ways[0].within(question.procedure, question.request, first)
			if err == nil {
				err = question.holds(first)
			}
			for _, reader := range p.ways[1:] {
				if err != nil {
					break
				}
				reply := question.reply()
				err = reader.within(question.procedure, question.request, reply)
				if err == nil && !proto.Equal(reply, first) {
					err = fmt.Errorf("%s reads another answer", reader.name)
				}
			}
			p.check(err, "what %s pushed is the same to all in %s", pusher.name, question.procedure)
		}
	}
}

// failByEach: every way is told the same code and the same words.
func (p *proof) failByEach() {
	window := func(selector string) *querierv1.SelectMergeStacktracesRequest {
		return &querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: selector, Start: 1, End: 2}
	}
	for _, failure := range []struct {
		what      string
		procedure string
		request   proto.Message
		code      connect.Code
	}{
		{"a selector that does not parse", querierv1connect.QuerierServiceSelectMergeStacktracesProcedure, window("{é=}"), connect.CodeInvalidArgument},
		{"a push of what is no profile", pushv1connect.PusherServicePushProcedure, push("protocols.broken", []byte("no profile: 100% é")), connect.CodeInvalidArgument},
		{"an empty push", pushv1connect.PusherServicePushProcedure, &pushv1.PushRequest{}, connect.CodeInvalidArgument},
	} {
		var words string
		for i, way := range p.ways {
			err := way.within(failure.procedure, failure.request, replyOf(failure.request))
			code, text := told(err)
			if i == 0 {
				words = text
				fmt.Printf("       %s: %s: %s\n", failure.what, code, words)
			}
			mismatch := equal("code", code, failure.code)
			if mismatch == nil {
				mismatch = equal("text", text, words)
			}
			p.check(mismatch, "%s is told of %s", way.name, failure.what)
		}
	}
	for _, way := range p.ways {
		err := way.within("/push.v1.PusherService/Pull", &pushv1.PushRequest{}, &pushv1.PushResponse{})
		code, _ := told(err)
		p.check(equal("code", code, connect.CodeUnimplemented), "%s is told of a procedure that is not there", way.name)
		if way.timeoutHeader == "" {
			continue
		}
		// The client itself would wait: the deadline that passes is the one the server was told.
		ctx := withHeader(context.Background(), way.timeoutHeader, way.noTime)
		err = way.call(ctx, querierv1connect.QuerierServiceSelectMergeStacktracesProcedure, window("{}"), &querierv1.SelectMergeStacktracesResponse{})
		code, text := told(err)
		mismatch := equal("code", code, connect.CodeDeadlineExceeded)
		if mismatch == nil && !strings.HasPrefix(text, "request timed out") {
			mismatch = fmt.Errorf("text: %s", text)
		}
		p.check(mismatch, "%s is told when its deadline has passed", way.name)
	}
}

func replyOf(request proto.Message) proto.Message {
	if _, isPush := request.(*pushv1.PushRequest); isPush {
		return &pushv1.PushResponse{}
	}
	return &querierv1.SelectMergeStacktracesResponse{}
}

// told is what an error says: code 0 for none.
func told(err error) (connect.Code, string) {
	var failure *connect.Error
	if errors.As(err, &failure) {
		return failure.Code(), failure.Message()
	}
	if err != nil {
		return connect.CodeUnknown, err.Error()
	}
	return 0, ""
}

func equal[T comparable](what string, got, want T) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s: %v, not %v", what, got, want)
}
