package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// healthByEach asks for the server's state as gRPC's health probes do.
func (p *proof) healthByEach() {
	for _, way := range p.ways {
		reply := &healthv1.HealthCheckResponse{}
		err := way.within(healthv1.Health_Check_FullMethodName, &healthv1.HealthCheckRequest{}, reply)
		if err == nil {
			err = equal("status", reply.GetStatus(), healthv1.HealthCheckResponse_SERVING)
		}
		p.check(err, "%s checks the server's health", way.name)
	}
	p.check(watch(p.address), "grpc-go watches the server's health")
}

func watch(address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	reply, err := stream.Recv()
	if err != nil {
		return err
	}
	return equal("status", reply.GetStatus(), healthv1.HealthCheckResponse_SERVING)
}
