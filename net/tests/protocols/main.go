// One server, every protocol it speaks: the published generated clients push and read over Connect, gRPC and gRPC-Web, and
// all answers are equal. grpc-go, which shares no code with connect-go, says the same once more.
//
//	go run . http://127.0.0.1:4040
package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: protocols http://host:port")
		os.Exit(2)
	}
	ways, err := allWays(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	run := proof{address: strings.TrimPrefix(os.Args[1], "http://"), ways: ways, started: time.Now()}
	run.pushByEach()
	run.readByEach()
	run.failByEach()
	run.healthByEach()
	fmt.Printf("%d passed, %d failed\n", run.passed, run.failed)
	if run.failed > 0 {
		os.Exit(1)
	}
}

// proof counts what held.
type proof struct {
	address        string
	ways           []way
	started        time.Time
	passed, failed int
}

func (p *proof) check(err error, format string, args ...any) {
	law := fmt.Sprintf(format, args...)
	if err != nil {
		p.failed++
		fmt.Printf("FAILED %s: %s\n", law, strings.TrimSpace(err.Error()))
		return
	}
	p.passed++
	fmt.Printf("ok     %s\n", law)
}
