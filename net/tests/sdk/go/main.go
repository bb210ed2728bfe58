// A program whose hot function is known, profiled by the Go SDK: what run.py looks for in the flame graph.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/grafana/pyroscope-go"
)

//go:noinline
func hotCollatz(n uint64) (steps uint64) {
	for n > 1 {
		if n%2 == 0 {
			n /= 2
		} else {
			n = 3*n + 1
		}
		steps++
	}
	return steps
}

func main() {
	seconds, err := strconv.ParseFloat(os.Args[3], 64)
	if err != nil {
		panic(err)
	}
	profiler, err := pyroscope.Start(pyroscope.Config{
		ApplicationName: os.Args[2],
		ServerAddress:   os.Args[1],
		Tags:            map[string]string{"proof": "sdk"},
		ProfileTypes:    []pyroscope.ProfileType{pyroscope.ProfileCPU, pyroscope.ProfileInuseSpace},
		UploadRate:      5 * time.Second,
		Logger:          pyroscope.StandardLogger,
	})
	if err != nil {
		panic(err)
	}
	steps := uint64(0)
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); {
		for n := uint64(1); n < 10_000; n++ {
			steps += hotCollatz(n)
		}
	}
	fmt.Println(steps, "steps")
	if err := profiler.Stop(); err != nil {
		panic(err)
	}
}
