By0J0Â5gÃGÁƒC¤p€ÂÅcC¥Ã
×KC{nÁ¤pÃÂbÂ…âÂÍL>CÀB