"""What orders blocks and keeps them: engines that drive one `Application` through one seam."""
