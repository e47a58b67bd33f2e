package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/state/wal"
)

func parse(t testing.TB, conninfo string) postgres.Conninfo {
	t.Helper()
	c, err := postgres.ParseConninfo(conninfo, nil, memory{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func connect(t testing.TB, conninfo string) *postgres.Conn {
	t.Helper()
	c, err := postgres.Connect(t.Context(), parse(t, conninfo), postgres.ConnectOptions{ApplicationName: "test", Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func walsender(t testing.TB, conninfo string) *postgres.Replication {
	t.Helper()
	r, err := postgres.ConnectReplication(t.Context(), parse(t, conninfo), postgres.ConnectOptions{ApplicationName: "test", Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// as gives the conninfo of another role.
func as(s *pgtest.Server, role string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres sslmode=disable", s.Port, role)
}

// TestServer looks at one server of each version through everything that does not need a server of its own.
func TestServer(t *testing.T) {
	for _, v := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			s := pgtest.Start(t, pgtest.Options{Version: v, SegmentMB: 1, Settings: map[string]string{
				"max_slot_wal_keep_size": "64MB", "wal_keep_size": "0", "wal_level": "logical",
			}})
			s.Exec(t, "create role least login replication")
			s.Exec(t, "create role stranger login replication")
			t.Run("facts", func(t *testing.T) { testFacts(t, s) })
			t.Run("least privilege", func(t *testing.T) { testLeastPrivilege(t, s) })
			t.Run("slots", func(t *testing.T) { testSlots(t, s) })
			t.Run("lock", func(t *testing.T) { testLock(t, s) })
			t.Run("captured", func(t *testing.T) { testCaptured(t, s) })
			t.Run("identify", func(t *testing.T) { testIdentify(t, s) })
			t.Run("lost slot", func(t *testing.T) { testLostSlot(t, s) })
		})
	}
}

func testFacts(t *testing.T, s *pgtest.Server) {
	space := s.Dir(t, "space")
	s.Exec(t, "create tablespace fast location '"+space+"'")
	s.Exec(t, "create table in_fast tablespace fast as select 1")
	c := connect(t, s.Conninfo())
	f, err := c.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := s.SQL(t, "select system_identifier from pg_control_system()"); f.SystemID != want {
		t.Errorf("system id %s, want %s", f.SystemID, want)
	}
	if f.Major() != s.Version || f.InRecovery || f.Timeline != 1 || f.SegmentSize != 1<<20 || f.PageSize != 8192 || !f.PageChecksums {
		t.Errorf("facts: %+v", f)
	}
	if age := time.Since(f.Now); age > time.Hour || age < -time.Hour {
		t.Errorf("the server's clock is %s away", age)
	}
	now, err := wal.ParseLSN(s.SQL(t, "select pg_current_wal_flush_lsn()"))
	if err != nil || f.FlushLSN > now || f.FlushLSN == 0 {
		t.Errorf("flushed to %s, later to %s", f.FlushLSN, now)
	}
	for name, want := range map[string]string{
		"wal_level": "logical", "max_wal_senders": "10", "max_slot_wal_keep_size": "64", "data_directory": s.DataDir,
		"wal_segment_size": "1048576", "synchronous_commit": "on", "fsync": "off", "max_prepared_transactions": "0",
	} {
		if f.Settings[name] != want {
			t.Errorf("setting %s is %q, want %q", name, f.Settings[name], want)
		}
	}
	if f.Role != (state.Role{Name: "postgres", Superuser: true, Replication: true, SwitchWAL: true, CreateRestore: true, ReadAllSettings: true, ReadAllStats: true}) {
		t.Errorf("role: %+v", f.Role)
	}
	if len(f.Tablespaces) != 1 || f.Tablespaces[0].Name != "fast" || f.Tablespaces[0].Location != space || f.Tablespaces[0].Size < 8192 {
		t.Errorf("tablespaces: %+v", f.Tablespaces)
	}
	patroni, err := postgres.Connect(t.Context(), parse(t, s.Conninfo()), postgres.ConnectOptions{ApplicationName: "Patroni heartbeat"})
	if err != nil {
		t.Fatal(err)
	}
	defer patroni.Close()
	if seen, err := patroni.Facts(t.Context()); err != nil || !seen.Patroni {
		t.Errorf("Patroni was not seen: %v", err)
	}
	if f.SizeBytes < 10<<20 || f.Patroni || f.Host != fmt.Sprintf("127.0.0.1:%d", s.Port) {
		t.Errorf("size %d, Patroni %t, host %s", f.SizeBytes, f.Patroni, f.Host)
	}
}

func testLeastPrivilege(t *testing.T, s *pgtest.Server) {
	c := connect(t, as(s, "least"))
	f, err := c.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Role != (state.Role{Name: "least", Replication: true}) {
		t.Errorf("role: %+v", f.Role)
	}
	if _, readable := f.Settings["data_directory"]; readable || f.Settings["wal_level"] != "logical" || f.SystemID == "" || f.SizeBytes != 0 {
		t.Errorf("facts: %+v", f)
	}
	if len(f.Tablespaces) != 1 || f.Tablespaces[0].Location == "" {
		t.Errorf("tablespaces: %+v", f.Tablespaces)
	}
	_, err = c.SwitchWAL(t.Context())
	if want := `GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO "least";`; state.CodeOf(err) != state.CodePrivilege || state.HintOf(err) != want {
		t.Errorf("switch: %v, hint %q", err, state.HintOf(err))
	}
	s.Exec(t, state.HintOf(err))
	if at, err := c.SwitchWAL(t.Context()); err != nil || at == 0 {
		t.Errorf("switch with the grant: %s, %v", at, err)
	}
	_, err = c.CreateRestorePoint(t.Context(), "p'1")
	if state.CodeOf(err) != state.CodePrivilege {
		t.Errorf("restore point: %v", err)
	}
	s.Exec(t, state.HintOf(err))
	if at, err := c.CreateRestorePoint(t.Context(), "p'1"); err != nil || at == 0 {
		t.Errorf("restore point with the grant: %s, %v", at, err)
	}
	if err := c.CreateSlot(t.Context(), "by_least"); err != nil {
		t.Error(err)
	}
	if err := c.DropSlot(t.Context(), "by_least"); err != nil {
		t.Error(err)
	}
	s.Exec(t, "create role nothing login")
	err = connect(t, as(s, "nothing")).CreateSlot(t.Context(), "x")
	if state.CodeOf(err) != state.CodePrivilege || state.HintOf(err) != `ALTER ROLE "nothing" REPLICATION;` {
		t.Errorf("slot without REPLICATION: %v, %q", err, state.HintOf(err))
	}
	_, err = postgres.ConnectReplication(t.Context(), parse(t, as(s, "nothing")), postgres.ConnectOptions{})
	if state.CodeOf(err) != state.CodeRole || state.HintOf(err) != `ALTER ROLE "nothing" REPLICATION;` {
		t.Errorf("walsender without REPLICATION: %v, %q", err, state.HintOf(err))
	}
}

func testSlots(t *testing.T, s *pgtest.Server) {
	ctx, c := t.Context(), connect(t, as(s, "least"))
	if slot, err := c.Slot(ctx, "a"); slot != nil || err != nil {
		t.Fatalf("absent slot: %v, %v", slot, err)
	}
	for range 2 {
		if err := c.CreateSlot(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	slot, err := c.Slot(ctx, "a")
	if err != nil || !slot.Physical || slot.Active || slot.RestartLSN == 0 || slot.WALStatus != state.SlotReserved || slot.SafeBytes == nil || *slot.SafeBytes < 60<<20 {
		t.Fatalf("slot %+v, %v", slot, err)
	}
	s.Exec(t, "create table w as select g from generate_series(1, 30000) g; select pg_switch_wal()")
	end, err := wal.ParseLSN(s.SQL(t, "select pg_current_wal_flush_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	held, err := c.Slot(ctx, "a")
	if err != nil || held.Retained < 1<<20 {
		t.Fatalf("slot %+v, %v", held, err)
	}
	for _, to := range []wal.LSN{end, slot.RestartLSN} {
		if err := c.AdvanceSlot(ctx, "a", to); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := c.Slot(ctx, "a"); err != nil || after.RestartLSN != end {
		t.Fatalf("advanced to %s: %+v, %v", end, after, err)
	}
	if err := c.AdvanceSlot(ctx, "none", end); state.CodeOf(err) != state.CodeSlotAbsent {
		t.Fatal(err)
	}
	s.Exec(t, "select pg_create_physical_replication_slot('idle')") // reserves nothing
	if err := c.CreateSlot(ctx, "idle"); err != nil {
		t.Fatal(err)
	}
	if idle, err := c.Slot(ctx, "idle"); err != nil || idle.RestartLSN == 0 {
		t.Fatalf("slot %+v, %v", idle, err)
	}
	testHolder(t, s, c)
	for _, name := range []string{"a", "a", "idle"} {
		if err := c.DropSlot(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
}

// testHolder lets a walsender hold slot a, and ends it from outside.
func testHolder(t *testing.T, s *pgtest.Server, c *postgres.Conn) {
	ctx := t.Context()
	r := walsender(t, as(s, "least"))
	system, err := r.IdentifySystem(ctx)
	if err != nil {
		t.Fatal(err)
	}
	o := postgres.StreamOptions{Slot: "a", Timeline: 1, From: wal.SegmentSize(1 << 20).Floor(system.FlushLSN)}
	stream, err := r.Stream(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DropSlot(ctx, "a"); state.CodeOf(err) != state.CodeSlotInUse {
		t.Fatalf("dropped a slot in use: %v", err)
	}
	second := walsender(t, as(s, "least"))
	if _, err := second.Stream(ctx, o); state.CodeOf(err) != state.CodeSlotInUse {
		t.Fatalf("two walsenders on one slot: %v", err)
	}
	slot, err := c.Slot(ctx, "a")
	if err != nil || !slot.Active || slot.ActivePID != r.PID() {
		t.Fatalf("slot %+v held by %d, %v", slot, r.PID(), err)
	}
	f, err := c.Facts(ctx)
	if err != nil || len(f.Senders) != 2 || f.Senders[0].PID != r.PID() || f.Senders[0].Application != "test" {
		t.Fatalf("senders %+v, %v", f.Senders, err)
	}
	if err := c.TerminateBackend(ctx, slot.ActivePID); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Next(ctx, time.Now().Add(patience))
	}
	if state.CodeOf(err) != state.CodeUnreachable {
		t.Fatalf("the ended stream says %v", err)
	}
	if _, err := second.Stream(ctx, o); err != nil { // the session outlived its refusal
		t.Fatal(err)
	}
	if err := c.TerminateBackend(ctx, second.PID()); err != nil {
		t.Fatal(err)
	}
}

func testLock(t *testing.T, s *pgtest.Server) {
	a, b := connect(t, as(s, "least")), connect(t, as(s, "least"))
	unlock, err := a.TryLock(t.Context(), "orders.eu")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.TryLock(t.Context(), "orders.eu")
	if state.CodeOf(err) != state.CodeLocked || !strings.Contains(err.Error(), "test as least from 127.0.0.1") {
		t.Fatalf("second lock: %v", err)
	}
	if !regexp.MustCompile(`\(server process \d+\) since 20\d\d-\d\d-\d\dT[\d:]+Z, lock id -?\d+$`).MatchString(err.Error()) {
		t.Errorf("it does not say since when, and which lock: %v", err)
	}
	if _, err := connect(t, as(s, "stranger")).TryLock(t.Context(), "orders.eu"); state.CodeOf(err) != state.CodeLocked || !strings.Contains(err.Error(), "a session of role least") {
		t.Errorf("a role that may see little: %v", err)
	}
	other, err := b.TryLock(t.Context(), "orders.us")
	if err != nil {
		t.Fatal(err)
	}
	other()
	unlock()
	again, err := b.TryLock(t.Context(), "orders.eu")
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func testCaptured(t *testing.T, s *pgtest.Server) {
	s.Exec(t, "alter system set primary_conninfo = 'host=x password=canary'")
	s.Reload(t)
	got, err := connect(t, s.Conninfo()).Captured(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%+v", got)
	if strings.Contains(text, "canary") || !strings.Contains(text, "primary_conninfo Value:********") {
		t.Errorf("captured %s", text)
	}
	if !got.Complete || !strings.Contains(text, "{Name:max_wal_senders Value:10 Source:configuration file File:"+s.DataDir) {
		t.Errorf("captured %s", text)
	}
	want := []string{"local all all trust", "local replication all trust", "host all all 127.0.0.1 255.255.255.255 trust", "host replication all 127.0.0.1 255.255.255.255 trust"}
	if diff := cmp.Diff(want, []string(got.HBA)); diff != "" {
		t.Error(diff)
	}
	if want := s.SQL(t, "select count(*) from pg_tablespace where spcname not like 'pg\\_%'"); fmt.Sprint(len(got.Tablespaces)) != want {
		t.Errorf("captured tablespaces %v, the server has %s", got.Tablespaces, want)
	}
	least, err := connect(t, as(s, "least")).Captured(t.Context())
	if err != nil || least.Complete || least.HBA != nil || len(least.Settings) == 0 {
		t.Errorf("captured with least privilege: %+v, %v", least, err)
	}
}

func testIdentify(t *testing.T, s *pgtest.Server) {
	r := walsender(t, as(s, "least"))
	system, err := r.IdentifySystem(t.Context())
	if err != nil || system.ID != s.SQL(t, "select system_identifier from pg_control_system()") || system.Timeline != 1 || system.FlushLSN == 0 {
		t.Fatalf("%+v, %v", system, err)
	}
	if z, err := r.SegmentSize(t.Context()); err != nil || z != 1<<20 {
		t.Fatalf("%d, %v", z, err)
	}
	if d, err := r.SenderTimeout(t.Context()); err != nil || d != time.Minute {
		t.Fatalf("wal_sender_timeout %s, %v", d, err)
	}
	if r.Version()/10000 != s.Version {
		t.Fatalf("version %d", r.Version())
	}
	if _, err := r.TimelineHistory(t.Context(), 1); state.CodeOf(err) != state.CodeAbsent {
		t.Fatal(err)
	}
	if _, err := r.TimelineHistory(t.Context(), 7); state.CodeOf(err) != state.CodeAbsent {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.IdentifySystem(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := r.IdentifySystem(t.Context()); err != nil { // a context that had ended broke nothing
		t.Fatal(err)
	}
	testRefusedStreams(t, s, r, system)
}

func testRefusedStreams(t *testing.T, s *pgtest.Server, r *postgres.Replication, system postgres.System) {
	s.Exec(t, "select pg_create_physical_replication_slot('p', true)")
	s.Exec(t, "select pg_create_logical_replication_slot('l', 'test_decoding')")
	defer s.Exec(t, "select pg_drop_replication_slot(slot_name) from pg_replication_slots")
	if err := connect(t, s.Conninfo()).CreateSlot(t.Context(), "l"); state.CodeOf(err) != state.CodeSettings {
		t.Errorf("create over a logical slot: %v", err)
	}
	for name, c := range map[string]struct {
		o    postgres.StreamOptions
		want state.Code
	}{
		"absent slot":      {postgres.StreamOptions{Slot: "none", Timeline: 1, From: system.FlushLSN}, state.CodeSlotAbsent},
		"logical slot":     {postgres.StreamOptions{Slot: "l", Timeline: 1, From: system.FlushLSN}, state.CodeSettings},
		"ahead":            {postgres.StreamOptions{Slot: "p", Timeline: 1, From: system.FlushLSN + 1<<30}, state.CodeAhead},
		"strange timeline": {postgres.StreamOptions{Slot: "p", Timeline: 9, From: system.FlushLSN}, state.CodeGap},
	} {
		stream, err := r.Stream(t.Context(), c.o)
		if err == nil {
			_, err = stream.Next(t.Context(), time.Now().Add(patience))
		}
		if state.CodeOf(err) != c.want {
			t.Errorf("%s: %s, %v", name, state.CodeOf(err), err)
		}
	}
}

func testLostSlot(t *testing.T, s *pgtest.Server) {
	ctx, c := t.Context(), connect(t, as(s, "least"))
	if err := c.CreateSlot(ctx, "doomed"); err != nil {
		t.Fatal(err)
	}
	slot, err := c.Slot(ctx, "doomed")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"max_slot_wal_keep_size = '1MB'", "max_wal_size = '2MB'", "min_wal_size = '2MB'"} {
		s.Exec(t, "alter system set "+q)
	}
	s.Reload(t)
	for range 8 {
		s.Exec(t, "create table z as select g from generate_series(1, 20000) g; drop table z; select pg_switch_wal()")
	}
	s.Exec(t, "checkpoint; checkpoint")
	lost, err := c.Slot(ctx, "doomed")
	if err != nil || lost.WALStatus != state.SlotLost {
		t.Fatalf("%+v, %v", lost, err)
	}
	if err := c.CreateSlot(ctx, "doomed"); state.CodeOf(err) != state.CodeSlotLost {
		t.Fatalf("create over a lost slot: %v", err)
	}
	r := walsender(t, as(s, "least"))
	z := wal.SegmentSize(1 << 20)
	stream, err := r.Stream(ctx, postgres.StreamOptions{Timeline: 1, From: z.Floor(slot.RestartLSN)})
	for err == nil {
		_, err = stream.Next(ctx, time.Now().Add(patience))
	}
	if state.CodeOf(err) != state.CodeGap {
		t.Fatalf("removed WAL: %s, %v", state.CodeOf(err), err)
	}
	if s.Version >= 18 { // up to 17 a lost slot streams on, over the hole: that is why it is looked at before
		if _, err := r.Stream(ctx, postgres.StreamOptions{Slot: "doomed", Timeline: 1, From: z.Floor(flushed(t, s))}); state.CodeOf(err) != state.CodeSlotLost {
			t.Fatalf("streaming from a lost slot: %s, %v", state.CodeOf(err), err)
		}
	}
	if _, err := r.IdentifySystem(ctx); err != nil { // the session outlived the stream
		t.Fatal(err)
	}
	if err := c.DropSlot(ctx, "doomed"); err != nil {
		t.Fatal(err)
	}
}
