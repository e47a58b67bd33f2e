// Package azure keeps a repository in a container of Azure Blob Storage.
//
// Every object is one Put Blob with "If-None-Match: *" and its MD5, never a list of blocks. The token of a put is kept as
// metadata, so that a put whose answer was lost is known again. Credentials are the account key of AZURE_STORAGE_KEY, or
// what Azure's own programs use: environment, workload or managed identity, the login of the az program.
//
// Locks are immutability policies of single versions (Set Blob Immutability Policy, and the headers of Put Blob): unlocked for
// governance, locked for compliance. The container must support version-level immutability. There the account keeps
// versions, so a blob that is deleted stays as an earlier version until that is deleted, too.
package azure
