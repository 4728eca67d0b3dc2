# leave.pl DIRECTORY: takes a directory out of its project by each system call that could; says what came of it.
use strict;
my ($directory) = @ARGV;
sysopen(my $opened, $directory, 0) or die "$directory: $!";
sub tell_of { my ($name, $done) = @_; print $name, ' ', $done ? 'done' : $!, "\n" }

my $attributes = "\0" x 28;
defined ioctl($opened, 0x801c581f, $attributes) or die "FS_IOC_FSGETXATTR: $!";
my ($flags, $sizes, $extents, $project, $rest) = unpack 'LLLLa*', $attributes;
tell_of('FS_IOC_FSSETXATTR', ioctl($opened, 0x401c5820, pack('LLLLa*', $flags & ~0x200, $sizes, $extents, 0, $rest)));

my $inode_flags = "\0" x 8;
defined ioctl($opened, 0x80086601, $inode_flags) or die "FS_IOC_GETFLAGS: $!";
for ([FS_IOC_SETFLAGS => 0x40086602], [FS_IOC32_SETFLAGS => 0x40046602]) {
    my ($name, $request) = @$_;
    my $without = pack 'Q', unpack('Q', $inode_flags) & ~0x20000000;
    tell_of($name, ioctl($opened, $request, $without));
}

# struct file_attr: the flags of 64 bits, then sizes, extents, project.
my ($path, $new) = ('', pack('QLLLL', 0, 0, 0, 0, 0));
$! = 0;
tell_of('file_setattr', 0 == syscall(469, fileno $opened, $path, $new, length $new, 0x1000));
