package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// barmanCommands are those of Barman 3.17: docs/user_guide/commands of its sources.
const barmanCommands = `archive-wal backup check check-backup config-switch config-update cron delete diagnose generate-manifest get-wal keep
list-backups list-files list-processes list-servers lock-directory-cleanup put-wal rebuild-xlogdb receive-wal recover
replication-status restore show-backup show-servers status switch-wal switch-xlog sync-backup sync-info sync-wals
terminate-process verify verify-backup`

// barmanTools are the programs beside it.
const barmanTools = `barman-wal-archive barman-wal-restore barman-cloud-backup barman-cloud-backup-delete barman-cloud-backup-keep
barman-cloud-backup-list barman-cloud-backup-show barman-cloud-check-wal-archive barman-cloud-restore barman-cloud-wal-archive
barman-cloud-wal-restore`

// barmanOptions are ServerConfig.KEYS, ModelConfig's and the global ones of barman/config.py of 3.17.
const barmanOptions = `active archiver archiver_batch_size autogenerate_manifest aws_await_snapshots_timeout aws_profile aws_region
aws_snapshot_lock_cool_off_period aws_snapshot_lock_duration aws_snapshot_lock_expiration_date aws_snapshot_lock_mode
azure_credential azure_resource_group azure_subscription_id backup_compression backup_compression_format
backup_compression_level backup_compression_location backup_compression_workers backup_directory backup_method backup_options
bandwidth_limit barman_home barman_lock_directory barman_user basebackup_retry_sleep basebackup_retry_times
basebackups_directory check_timeout cluster combine_mode compression compression_level config_changes_queue
configuration_files_directory conninfo create_slot custom_compression_filter custom_compression_magic
custom_decompression_filter description disabled encryption encryption_key_id encryption_passphrase_command errors_directory
forward_config_path gcp_project gcp_zone immediate_checkpoint incoming_wals_directory keepalive_internval keepalive_interval
last_backup_maximum_age last_backup_minimum_size last_wal_maximum_age local_staging_path lock_directory_cleanup log_file
log_level max_incoming_wals_queue minimum_redundancy model network_compression parallel_jobs parallel_jobs_start_batch_period
parallel_jobs_start_batch_size path_prefix post_archive_retry_script post_archive_script post_backup_retry_script
post_backup_script post_delete_retry_script post_delete_script post_recovery_retry_script post_recovery_script
post_wal_delete_retry_script post_wal_delete_script pre_archive_retry_script pre_archive_script pre_backup_retry_script
pre_backup_script pre_delete_retry_script pre_delete_script pre_recovery_retry_script pre_recovery_script
pre_wal_delete_retry_script pre_wal_delete_script primary_checkpoint_timeout primary_conninfo primary_ssh_command
recovery_options recovery_staging_path retention_policy retention_policy_mode reuse_backup slot_name snapshot_disks
snapshot_gcp_project snapshot_instance snapshot_provider snapshot_zone ssh_command staging_location staging_path
streaming_archiver streaming_archiver_batch_size streaming_archiver_name streaming_backup_name streaming_conninfo
streaming_wals_directory tablespace_bandwidth_limit wal_conninfo wal_retention_policy wal_streaming_conninfo wals_directory
worm_mode xlogdb_directory`

// TestFromBarman: every command and option of Barman has one line in docs/from-barman.md, and every command, flag and
// attribute of pgkeep that the page names exists.
func TestFromBarman(t *testing.T) {
	page, err := os.ReadFile("../../docs/from-barman.md")
	if err != nil {
		t.Fatal(err)
	}
	wanted := append(strings.Fields(barmanTools), strings.Fields(barmanOptions)...)
	for _, c := range strings.Fields(barmanCommands) {
		wanted = append(wanted, "barman "+c)
	}
	for _, w := range wanted {
		if n := strings.Count(string(page), "\n| `"+w+"` |"); n != 1 {
			t.Errorf("%s has %d lines", w, n)
		}
	}
	root := rootCommand(newApp())
	attributes := documentedAttributes(t)
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(string(page), -1) {
		word := m[1]
		if command, ours := strings.CutPrefix(word, "pgkeep "); ours && command != "…" {
			knownCommand(t, root, command)
		}
		attribute := regexp.MustCompile(`^(pgkeep|repository|server|schedule|retention|recovery|approval|removed|moved|variable|output)\.[a-z_.]+$`)
		if attribute.MatchString(word) && !attributes[word] {
			t.Errorf("docs/language.md knows no %s", word)
		}
	}
}

// knownCommand finds a command, and the flags that follow it.
func knownCommand(t *testing.T, root *cobra.Command, line string) {
	t.Helper()
	root.InitDefaultHelpCmd()
	c, rest, err := root.Find(strings.Fields(line))
	if err != nil || c == root {
		t.Errorf("pgkeep %s is no command: %v", line, err)
		return
	}
	for _, word := range rest {
		name, flag := strings.CutPrefix(word, "--")
		if !flag || c.Flags().Lookup(name) == nil && c.InheritedFlags().Lookup(name) == nil {
			t.Errorf("pgkeep %s: %s has no %s", line, c.Name(), word)
		}
	}
}

// documentedAttributes gives "block.attribute" of every row of docs/language.md, which a test holds against the language.
func documentedAttributes(t *testing.T) map[string]bool {
	t.Helper()
	page, err := os.ReadFile("../../docs/language.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	block := ""
	for line := range strings.Lines(string(page)) {
		if m := regexp.MustCompile(`^### ([a-z]+)`).FindStringSubmatch(line); m != nil {
			block = m[1]
		}
		if m := regexp.MustCompile("^\\| `([a-z_.]+)` \\|").FindStringSubmatch(line); m != nil {
			out[block+"."+m[1]] = true
		}
	}
	if len(out) < 50 {
		t.Fatalf("only %d attributes were found", len(out))
	}
	return out
}
