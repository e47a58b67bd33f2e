package recovery

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// logPrefix is the log_line_prefix of a server that Start starts: with the kind of process, so that nothing that a client
// does can look like the word of the startup process.
const logPrefix = "%m [%p] %b: "

// logLine is one line of the log in that form. Lines that continue a message begin with a tab and do not match.
var logLine = regexp.MustCompile(`^\S+ \S+ \S+ \[\d+\] ([a-z][a-z ]*): +([A-Z]+[0-9]?): +(.*)$`)

// The sentences of PostgreSQL 13 to 18, from xlogrecovery.c (xlog.c before 15) and postmaster.c, in the C locale.
var (
	stopTransaction = regexp.MustCompile(`^recovery stopping (before|after) (commit|abort) of (?:prepared )?transaction (\d+), time (.*)$`)
	stopPosition    = regexp.MustCompile(`^recovery stopping (before|after) WAL location \(LSN\) "([^"]*)"$`)
	stopPoint       = regexp.MustCompile(`^recovery stopping at restore point "(.*)", time (.*)$`)
	redoDone        = regexp.MustCompile(`^redo done at ([0-9A-F]+/[0-9A-F]+)`)
	redoStarts      = regexp.MustCompile(`^redo starts at ([0-9A-F]+/[0-9A-F]+)`)
	redoGoesOn      = regexp.MustCompile(`^redo in progress, .*current LSN: ([0-9A-F]+/[0-9A-F]+)`)
	lastTransaction = regexp.MustCompile(`^last completed transaction was at log time (.*)$`)
	newTimeline     = regexp.MustCompile(`^selected new timeline ID: (\d+)$`)
	restoredSegment = regexp.MustCompile(`^restored log file "([0-9A-F]{24})" from archive$`)
)

const stoppedConsistent = "recovery stopping after reaching consistency"

// stopLine is where PostgreSQL says that it stopped.
type stopLine struct {
	text       string
	after      bool // of a transaction or position
	xid        uint32
	commit     bool // the transaction committed; else it aborted
	position   wal.LSN
	point      string // restore point
	consistent bool
	time       time.Time
}

// serverLog is what the log of one start says of the recovery.
type serverLog struct {
	stop         *stopLine // nil: it did not say
	redo         wal.LSN   // start of the last record that was replayed; zero: it did not say
	at           wal.LSN   // how far it has come, as far as it said
	last         time.Time // end of the last transaction
	timeline     wal.Timeline
	segments     int    // that were restored from the archive
	segment      string // the last of them
	behind       string // the last of them since redo began: what lies before it is replayed
	paused       bool   // at the target
	pausedEarly  bool   // because of something else
	promoted     bool   // archive recovery is complete
	stoppedThere bool   // shut down at the target
	readOnly     bool   // it answers
	ready        bool   // it answers, and can be written to
	trouble      []string
	invalids     map[uint32]string // of a database: a page without content that WAL refers to
}

// troubleKept bounds how many lines of trouble are remembered: the newest.
const troubleKept = 12

// take reads one line.
func (l *serverLog) take(line string) {
	m := logLine.FindStringSubmatch(line)
	if m == nil {
		if strings.Contains(line, "wal-get: ") || strings.HasPrefix(line, "sh: ") {
			l.keep(line) // restore_command writes to the same log
		}
		return
	}
	who, level, text := m[1], m[2], m[3]
	if who != "startup" && who != "postmaster" && who != "not initialized" {
		return
	}
	switch level {
	case "FATAL", "PANIC", "ERROR", "WARNING", "DETAIL", "HINT":
		l.keep(level + ":  " + text)
		l.invalid(text)
	case "LOG":
		l.said(text)
	}
}

func (l *serverLog) keep(line string) {
	l.trouble = append(l.trouble, line)
	if n := len(l.trouble); n > troubleKept {
		l.trouble = l.trouble[n-troubleKept:]
	}
}

func (l *serverLog) said(text string) {
	switch {
	case strings.HasPrefix(text, "recovery stopping "):
		l.stop = parseStop(text)
	case strings.HasPrefix(text, "pausing at the end of recovery"):
		l.paused = true
	case strings.HasPrefix(text, "recovery has paused"):
		l.pausedEarly = true
	case strings.HasPrefix(text, "archive recovery complete"):
		l.promoted = true
	case strings.HasPrefix(text, "shutdown at recovery target"):
		l.stoppedThere = true
	case strings.HasPrefix(text, "database system is ready to accept read"):
		l.readOnly = true
	case strings.HasPrefix(text, "database system is ready to accept connections"):
		l.ready = true
	case strings.Contains(text, "could not "), strings.HasPrefix(text, "startup process "), strings.HasPrefix(text, "invalid "), strings.Contains(text, "terminated by"):
		l.keep("LOG:  " + text)
	default:
		l.counted(text)
	}
}

// counted reads the lines that carry a position, a number or a time.
func (l *serverLog) counted(text string) {
	position := func(s string) wal.LSN {
		p, _ := wal.ParseLSN(s) // the expression lets nothing else through
		return p
	}
	if m := restoredSegment.FindStringSubmatch(text); m != nil {
		l.segments++
		l.segment = m[1]
		if l.at != 0 { // before, the segment of the checkpoint is read, which is not the first to replay
			l.behind = m[1]
		}
	} else if m := redoStarts.FindStringSubmatch(text); m != nil {
		l.at = position(m[1])
	} else if m := redoGoesOn.FindStringSubmatch(text); m != nil {
		l.at = position(m[1])
	} else if m := redoDone.FindStringSubmatch(text); m != nil {
		l.redo = position(m[1])
		l.at = l.redo
	} else if m := lastTransaction.FindStringSubmatch(text); m != nil {
		l.last = logTime(m[1])
	} else if m := newTimeline.FindStringSubmatch(text); m != nil {
		n, _ := strconv.ParseUint(m[1], 10, 32) // digits
		l.timeline = wal.Timeline(n)
	}
}

// parseStop reads the line in which PostgreSQL says where it stops.
func parseStop(text string) *stopLine {
	s := &stopLine{text: text, consistent: text == stoppedConsistent}
	if m := stopTransaction.FindStringSubmatch(text); m != nil {
		xid, _ := strconv.ParseUint(m[3], 10, 32) // digits; zero is no transaction
		s.after, s.commit, s.xid, s.time = m[1] == "after", m[2] == "commit", uint32(xid), logTime(m[4])
	} else if m := stopPosition.FindStringSubmatch(text); m != nil {
		s.after = m[1] == "after"
		s.position, _ = wal.ParseLSN(m[2]) // zero is no position
	} else if m := stopPoint.FindStringSubmatch(text); m != nil {
		s.point, s.time = m[1], logTime(m[2])
	}
	return s
}

// logTime reads a time as PostgreSQL writes it with DateStyle ISO; zero: it is none.
func logTime(text string) time.Time {
	for _, form := range []string{"2006-01-02 15:04:05.999999-07", "2006-01-02 15:04:05.999999-07:00", "2006-01-02 15:04:05.999999-07:00:00"} {
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// logFollower reads a growing log line by line.
type logFollower struct {
	path   string
	offset int64
	rest   string // a line that has no end yet
	log    serverLog
}

// read takes in what was written since the last call. Memory stays bounded whatever the log holds.
func (f *logFollower) read() error {
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("read the server's log: %w", err)
	}
	defer file.Close()
	if _, err := file.Seek(f.offset, io.SeekStart); err != nil {
		return fmt.Errorf("read the server's log: %w", err)
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := file.Read(buffer)
		f.offset += int64(n)
		lines := strings.Split(f.rest+string(buffer[:n]), "\n")
		f.rest = lines[len(lines)-1]
		if len(f.rest) > 1<<20 {
			f.rest = f.rest[:1<<10] // no line of PostgreSQL's that matters is as long
		}
		for _, line := range lines[:len(lines)-1] {
			f.log.take(line)
		}
		if n == 0 || err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
}
