package file

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// rounds gives how often a random fault is tried: 40, or PGKEEP_ROUNDS.
func rounds(t *testing.T) int {
	if s := os.Getenv("PGKEEP_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 40
}

// bodyOf gives the bytes of an object by its number: of varying length, all different.
func bodyOf(n int) []byte {
	line := fmt.Appendf(nil, "object %d\n", n)
	return bytes.Repeat(line, 1+n*7919%60_000)
}

// TestMain lets the test binary be the writer that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PGKEEP_TEST_WRITER"); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// writeUntilKilled puts objects in order and prints each number once it was acknowledged.
func writeUntilKilled(dir string) error {
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	first, err := strconv.Atoi(os.Getenv("PGKEEP_TEST_FIRST"))
	if err != nil {
		return err
	}
	for n := first; ; n++ {
		body := bodyOf(n)
		err := s.PutIfAbsent(context.Background(), objectKey(n), bytes.NewReader(body), int64(len(body)), store.PutOptions{})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
		fmt.Println(n)
	}
}

func objectKey(n int) string { return fmt.Sprintf("c/%d/%08d", n/7, n) }

// TestKill kills a writer with SIGKILL at random moments: every acknowledged object is whole, every other is whole or absent, and temporary files
// do not pile up.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	next := 0
	for range rounds(t) {
		next = writeAndKill(t, dir, next, time.Duration(r.IntN(40_000))*time.Microsecond)
	}
	s := openIn(t, dir)
	seen := 0
	for info, err := range s.List(t.Context(), "", "", false) {
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(info.Key[strings.LastIndex(info.Key, "/")+1:], "%d", &n); err != nil {
			t.Fatal(err)
		}
		checkBody(t, s, n)
		seen++
	}
	for n := range next {
		checkBody(t, s, n)
	}
	if err := s.Probe(); err != nil {
		t.Fatal(err)
	}
	os.Remove(dir + "/" + ballastName)
	if names, _ := os.ReadDir(dir + "/" + tempDir); len(names) != 0 {
		t.Errorf("%d temporary files were never collected", len(names))
	}
	if next == 0 {
		t.Error("no object was ever acknowledged")
	}
	t.Logf("%d objects acknowledged, %d there", next, seen)
}

func checkBody(t *testing.T, s store.Store, n int) {
	t.Helper()
	rd, err := s.Get(t.Context(), objectKey(n), 0, -1)
	if err != nil {
		t.Fatalf("object %d was acknowledged: %v", n, err)
	}
	defer rd.Close()
	got, err := io.ReadAll(rd)
	if err != nil || !bytes.Equal(got, bodyOf(n)) {
		t.Fatalf("object %d is torn: %d bytes, %v", n, len(got), err)
	}
}

// writeAndKill starts a writer, kills it after its first answer and the given time, and gives the number after the last
// acknowledged one.
func writeAndKill(t *testing.T, dir string, first int, life time.Duration) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGKEEP_TEST_WRITER="+dir, fmt.Sprintf("PGKEEP_TEST_FIRST=%d", first))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next := first
	var timer *time.Timer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if timer == nil {
			timer = time.AfterFunc(life, func() { cmd.Process.Kill() })
		}
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			break // the last line was cut by the kill
		}
		next = n + 1
	}
	if timer == nil {
		cmd.Process.Kill()
	}
	cmd.Wait() // killed
	return next
}
