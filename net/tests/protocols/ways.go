package main

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// way is one client of the server: a protocol, and whether what it sends is compressed.
type way struct {
	name string
	// The header of deadlines, and the shortest value it takes.
	timeoutHeader, noTime string
	call                  func(ctx context.Context, procedure string, request, reply proto.Message) error
}

// allWays lists the clients, the plainest first: the others are held against it.
func allWays(address string) ([]way, error) {
	h1 := &http.Client{Timeout: patience, Transport: &http.Transport{DisableCompression: true}}
	h2Only := new(http.Protocols)
	h2Only.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Timeout: patience, Transport: &http.Transport{Protocols: h2Only, DisableCompression: true}}

	var ways []way
	for _, gzip := range []bool{false, true} {
		var packed []connect.ClientOption
		suffix := ""
		if gzip {
			packed = append(packed, connect.WithSendGzip())
			suffix = ", gzip"
		}
		with := func(name string, client *http.Client, timeoutHeader, noTime string, options ...connect.ClientOption) {
			ways = append(ways, way{name + suffix, timeoutHeader, noTime, connectCall(client, address, append(options, packed...))})
		}
		with("connect", h1, "Connect-Timeout-Ms", "0")
		with("connect JSON", h1, "Connect-Timeout-Ms", "0", connect.WithProtoJSON())
		with("connect h2c", h2, "Connect-Timeout-Ms", "0")
		with("grpc", h2, "Grpc-Timeout", "0n", connect.WithGRPC())
		with("grpc JSON", h2, "Grpc-Timeout", "0n", connect.WithGRPC(), connect.WithProtoJSON())
		with("grpc-web", h1, "Grpc-Timeout", "0n", connect.WithGRPCWeb())
		with("grpc-web h2c", h2, "Grpc-Timeout", "0n", connect.WithGRPCWeb())

		options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
		if gzip {
			options = append(options, grpc.WithDefaultCallOptions(grpc.UseCompressor("gzip")))
		}
		conn, err := grpc.NewClient(strings.TrimPrefix(address, "http://"), options...)
		if err != nil {
			return nil, err
		}
		// grpc-go keeps the header of deadlines to itself.
		ways = append(ways, way{"grpc-go" + suffix, "", "", grpcCall(conn)})
	}
	return ways, nil
}

// connectCall calls through the generated clients where there is a method for the procedure, so that what is published is what
// is tried; procedures they have not are called by name.
func connectCall(client *http.Client, address string, options []connect.ClientOption) func(context.Context, string, proto.Message, proto.Message) error {
	pusher := pushv1connect.NewPusherServiceClient(client, address, options...)
	querier := querierv1connect.NewQuerierServiceClient(client, address, options...)
	return func(ctx context.Context, procedure string, request, reply proto.Message) error {
		switch procedure {
		case pushv1connect.PusherServicePushProcedure:
			return generated(ctx, pusher.Push, request, reply)
		case querierv1connect.QuerierServiceLabelNamesProcedure:
			return generated(ctx, querier.LabelNames, request, reply)
		case querierv1connect.QuerierServiceLabelValuesProcedure:
			return generated(ctx, querier.LabelValues, request, reply)
		case querierv1connect.QuerierServiceProfileTypesProcedure:
			return generated(ctx, querier.ProfileTypes, request, reply)
		case querierv1connect.QuerierServiceSeriesProcedure:
			return generated(ctx, querier.Series, request, reply)
		case querierv1connect.QuerierServiceSelectSeriesProcedure:
			return generated(ctx, querier.SelectSeries, request, reply)
		case querierv1connect.QuerierServiceSelectMergeProfileProcedure:
			return generated(ctx, querier.SelectMergeProfile, request, reply)
		case querierv1connect.QuerierServiceSelectMergeStacktracesProcedure:
			return generated(ctx, querier.SelectMergeStacktraces, request, reply)
		}
		if procedure == healthv1.Health_Check_FullMethodName {
			check := connect.NewClient[healthv1.HealthCheckRequest, healthv1.HealthCheckResponse](client, address+procedure, options...)
			return generated(ctx, check.CallUnary, request, reply)
		}
		byName := connect.NewClient[pushv1.PushRequest, pushv1.PushResponse](client, address+procedure, options...)
		return generated(ctx, byName.CallUnary, request, reply)
	}
}

func generated[In, Out any](ctx context.Context, method func(context.Context, *connect.Request[In]) (*connect.Response[Out], error), request, reply proto.Message) error {
	in, _ := any(request).(*In)
	call := connect.NewRequest(in)
	for name, value := range headersOf(ctx) {
		call.Header().Set(name, value)
	}
	response, err := method(ctx, call)
	if err != nil {
		return err
	}
	out, _ := any(response.Msg).(proto.Message)
	proto.Merge(reply, out)
	return nil
}

func grpcCall(conn *grpc.ClientConn) func(context.Context, string, proto.Message, proto.Message) error {
	return func(ctx context.Context, procedure string, request, reply proto.Message) error {
		for name, value := range headersOf(ctx) {
			ctx = metadata.AppendToOutgoingContext(ctx, name, value)
		}
		err := conn.Invoke(ctx, procedure, request, reply)
		if failure, ok := status.FromError(err); ok && err != nil {
			// The numbers of both libraries are those of gRPC.
			return connect.NewError(connect.Code(failure.Code()), errorText(failure.Message()))
		}
		return err
	}
}

type errorText string

func (t errorText) Error() string { return string(t) }

type headersKey struct{}

func withHeader(ctx context.Context, name, value string) context.Context {
	return context.WithValue(ctx, headersKey{}, map[string]string{name: value})
}

func headersOf(ctx context.Context) map[string]string {
	headers, _ := ctx.Value(headersKey{}).(map[string]string)
	return headers
}
